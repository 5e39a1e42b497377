//! The one configuration of training: a preset, a file over it, flags over both.
//!
//! A preset is a complete TOML file; nothing has a default in code. A file given by the user names
//! the preset it starts from and only what differs; `--set dino.base_lr=1e-4` overrides both. What
//! results is written beside every result, and reading that file back gives the same run.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::TrainError;

/// The whole configuration, as read; [`Plan`](super::Plan) is its checked form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The preset this configuration started from.
    pub preset: Preset,
    /// Every random stream derives from it.
    pub seed: u64,
    /// `cpu`, `cuda` or `cuda:1`.
    pub device: String,
    /// Architecture.
    pub model: ModelConfig,
    /// How scans reach the device.
    pub data: DataConfig,
    /// What both objectives share.
    pub pretrain: PretrainConfig,
    /// Self-distillation.
    pub dino: DinoConfig,
    /// Masked autoencoding.
    pub mae: MaeConfig,
    /// Fine-tuning and probing.
    pub finetune: FinetuneConfig,
    /// Few-shot study.
    pub few_shot: FewShotConfig,
    /// Search for the model trained from scratch.
    pub sweep: SweepConfig,
}

/// Where a configuration starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The published study.
    Paper,
    /// The numbers of the released configuration files.
    Repo,
    /// A CPU-sized study: 48³ input, 216 tokens.
    Small,
    /// For demonstrations and tests: 24³ input, 64 tokens.
    Tiny,
}

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Architecture {
    /// 3-D ResNet-50, the paper's convolutional baseline; trained from scratch only.
    #[serde(rename = "resnet50-3d")]
    #[value(name = "resnet50-3d")]
    Resnet50,
    /// 3-D vision transformer.
    #[serde(rename = "vit")]
    Vit,
}

/// Architecture; widths in channels, sizes in voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which network.
    pub architecture: Architecture,
    /// Edge of the cubic input.
    pub input: usize,
    /// 3 (three windows) or 1 (−110…190 HU).
    pub channels: usize,
    /// Edge of a patch; divides `input`.
    pub patch: usize,
    /// Embedding width; a multiple of 6 and of `heads`.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the block's MLP.
    pub mlp: usize,
    /// Whether query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Register tokens.
    pub registers: usize,
}

/// How scans reach the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `paper`: 224 mm cubes; `repo`: the box around the head.
    pub geometry: Geometry,
    /// Background threads that decode and augment.
    pub workers: usize,
    /// Batches prepared ahead, at most; one for each worker where that is more.
    pub queue: usize,
    /// Memory for decoded scans, MiB; 0 reads each scan again each time.
    pub memory_mib: usize,
}

/// Which published geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Geometry {
    /// 224 mm cube at 1 mm, centre 192 mm for evaluation.
    Paper,
    /// Bounding box of HU > 0, stretched to the model's size.
    Repo,
}

/// What both objectives share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Share of the training patients, in (0, 1]; a smaller share is contained in a larger one.
    pub fraction: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between log lines.
    pub log_every: u64,
    /// GPUs that share the passes of each step, from `device` on; 1 on the CPU.
    pub devices: usize,
    /// In which type linear layers multiply.
    pub precision: Precision,
}

/// In which type linear layers multiply; parameters, losses and gradients are float32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// On GPUs that have it.
    Bfloat16,
    /// Everywhere.
    Float32,
}

/// A length of training: `{ epochs = 300 }`, `{ steps = 400 }` or `{ fraction = 0.1 }` of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// Passes over the training scans.
    Epochs(f64),
    /// Share of the whole run.
    Fraction(f64),
    /// Optimizer steps.
    Steps(u64),
}

/// Self-distillation (DINO).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoConfig {
    /// Whole run.
    pub length: Span,
    /// Linear warm-up of the learning rate.
    pub warmup: Span,
    /// Scans per optimizer step, over all devices and accumulated passes.
    pub global_batch: usize,
    /// Scans per pass of one device.
    pub device_batch: usize,
    /// Peak learning rate at a global batch of 256; scaled linearly.
    pub base_lr: f64,
    /// AdamW decay rates of the moments.
    pub betas: [f64; 2],
    /// Weight decay at the first step.
    pub weight_decay: f64,
    /// Weight decay at the last step (cosine in between).
    pub weight_decay_end: f64,
    /// Whether norms, biases and position tables decay too (as published).
    pub decay_all: bool,
    /// Largest gradient norm of one parameter; 0 switches clipping off.
    pub clip: f64,
    /// Global views per scan; the teacher sees these.
    pub global_views: usize,
    /// Local views per scan.
    pub local_views: usize,
    /// Side of the cube that global views are cut from, voxels of the scan; a smaller scan is
    /// padded.
    pub cube: usize,
    /// Side of the central cube that local views are cut from.
    pub local_cube: usize,
    /// Least and greatest side of a global crop.
    pub global_crop: [usize; 2],
    /// Least and greatest side of a local crop.
    pub local_crop: [usize; 2],
    /// Linear layers of the head before the prototypes.
    pub head_layers: usize,
    /// Hidden width of the head.
    pub head_hidden: usize,
    /// Width before the prototypes.
    pub head_bottleneck: usize,
    /// Batch norm in the head; keeps small models from collapsing.
    pub head_batch_norm: bool,
    /// Prototypes.
    pub prototypes: usize,
    /// Teacher momentum at the first step; rises to 1 by a cosine.
    pub momentum: f64,
    /// Student temperature.
    pub student_temperature: f64,
    /// Teacher temperature after its warm-up.
    pub teacher_temperature: f64,
    /// Teacher temperature at the first step.
    pub teacher_temperature_start: f64,
    /// Linear warm-up of the teacher temperature.
    pub teacher_temperature_warmup: Span,
    /// Decay rate of the center.
    pub center_momentum: f64,
    /// How long the prototypes stay fixed.
    pub freeze_last_layer: Span,
    /// Probability of a flip per axis (left–right, posterior–anterior, inferior–superior).
    pub flip: [f64; 3],
    /// Largest intensity shift.
    pub shift: f64,
    /// Probability of smoothing (first global view) and of a gamma change (second).
    pub smooth_gamma: f64,
}

/// Masked autoencoding (MAE).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaeConfig {
    /// Whole run.
    pub length: Span,
    /// Linear warm-up of the learning rate.
    pub warmup: Span,
    /// Scans per optimizer step, over all devices and accumulated passes.
    pub global_batch: usize,
    /// Scans per pass of one device.
    pub device_batch: usize,
    /// Peak learning rate at a global batch of 256; scaled linearly.
    pub base_lr: f64,
    /// AdamW decay rates of the moments.
    pub betas: [f64; 2],
    /// Weight decay at the first step.
    pub weight_decay: f64,
    /// Weight decay at the last step (cosine in between).
    pub weight_decay_end: f64,
    /// Whether norms, biases and position tables decay too (as published).
    pub decay_all: bool,
    /// Largest gradient norm of one parameter; 0 switches clipping off.
    pub clip: f64,
    /// Share of patches hidden.
    pub mask_ratio: f64,
    /// Whether targets are normalised per patch.
    pub norm_pix_loss: bool,
    /// Decoder width; a multiple of 6 and of `decoder_heads`.
    pub decoder_dim: usize,
    /// Decoder blocks.
    pub decoder_depth: usize,
    /// Decoder heads.
    pub decoder_heads: usize,
    /// Hidden width of the decoder's MLP.
    pub decoder_mlp: usize,
    /// Probability of a flip per axis (left–right, posterior–anterior, inferior–superior).
    pub flip: [f64; 3],
    /// Largest intensity shift.
    pub shift: f64,
}

/// Fine-tuning and probing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Most epochs; the best by validation AUC is kept.
    pub epochs: usize,
    /// Scans drawn per epoch, balanced between the classes.
    pub draws: usize,
    /// Scans per step.
    pub batch: usize,
    /// Peak learning rate of the backbone (not scaled by batch).
    pub backbone_lr: f64,
    /// Peak learning rate of the head.
    pub head_lr: f64,
    /// Last over peak learning rate.
    pub min_lr_ratio: f64,
    /// Share of the steps that warm up.
    pub warmup: f64,
    /// Which optimizer.
    pub optimizer: OptimizerKind,
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest global gradient norm, of backbone and head apart; 0 switches clipping off.
    pub clip: f64,
    /// Probability of a flip per axis; the first axis is left–right and is never flipped for a
    /// label with a side.
    pub flip: [f64; 3],
    /// Largest intensity shift.
    pub shift: f64,
}

/// Which optimizer fine-tunes; the paper's sweep compares the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam; weight decay enters through the gradient.
    Adam,
    /// AdamW.
    Adamw,
    /// Gradient descent with momentum 0.9.
    Sgd,
}

/// Few-shot study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewShotConfig {
    /// Scans per class.
    pub shots: Vec<usize>,
    /// Draws of the training scans per number of shots.
    pub repeats: usize,
    /// Neighbors of the k-nearest-neighbor classifier.
    pub neighbors: usize,
}

/// Search for the model trained from scratch; selection is by validation AUC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Learning rates of backbone and head alike.
    pub learning_rates: Vec<f64>,
    /// Weight decays.
    pub weight_decays: Vec<f64>,
    /// Numbers of epochs.
    pub epochs: Vec<usize>,
    /// Optimizers.
    pub optimizers: Vec<OptimizerKind>,
}

impl Config {
    /// The preset itself.
    ///
    /// # Panics
    ///
    /// Never: every preset is read by a test.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        Self::resolve(preset, None, &[]).expect("presets are complete")
    }

    /// A preset, a TOML text over it, `key=value` settings over both.
    ///
    /// The text may name its own `preset`, which then replaces the argument.
    ///
    /// # Errors
    ///
    /// TOML that cannot be read, a field that does not exist, a value of another type; the message
    /// names the key.
    pub fn resolve(
        preset: Preset,
        text: Option<&str>,
        settings: &[String],
    ) -> Result<Self, TrainError> {
        let over = text.map(parse).transpose()?.unwrap_or_default();
        let preset = match over.get("preset") {
            Some(named) => named.clone().try_into().map_err(invalid)?,
            None => preset,
        };
        let mut table = parse(preset.text())?;
        table.insert(
            "preset".into(),
            Value::try_from(preset).map_err(unwritable)?,
        );
        overlay(&mut table, over);
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| TrainError::Config {
                reason: format!("setting `{setting}`: expected KEY=VALUE"),
            })?;
            if key.trim() == "preset" {
                return Err(TrainError::config(format!(
                    "setting `{setting}`: would rename the preset and change nothing else; choose \
                     one by --preset, or by the first line of the file"
                )));
            }
            overlay(&mut table, setting_table(key.trim(), value.trim())?);
        }
        table.try_into().map_err(invalid)
    }

    /// The resolved configuration as TOML.
    ///
    /// # Errors
    ///
    /// A number TOML cannot hold (a seed above 2⁶³ − 1).
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(unwritable)
    }
}

impl Preset {
    fn text(self) -> &'static str {
        match self {
            Self::Paper => include_str!("presets/paper.toml"),
            Self::Repo => include_str!("presets/repo.toml"),
            Self::Small => include_str!("presets/small.toml"),
            Self::Tiny => include_str!("presets/tiny.toml"),
        }
    }
}

fn parse(text: &str) -> Result<Table, TrainError> {
    text.parse::<Table>().map_err(invalid)
}

/// A value replaces; only a section at the top merges key by key, so that `{ steps = 9 }` replaces
/// `{ epochs = 3 }` whole.
fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(fields)) => section.extend(fields),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// A bare word is a string, so `--set device=cpu` needs no quotes.
fn setting_table(key: &str, value: &str) -> Result<Table, TrainError> {
    format!("{key} = {value}")
        .parse()
        .or_else(|_| parse(&format!("{key} = {value:?}")))
}

fn invalid(source: toml::de::Error) -> TrainError {
    TrainError::Config {
        reason: source.to_string().trim_end().to_owned(),
    }
}

fn unwritable(source: toml::ser::Error) -> TrainError {
    TrainError::Config {
        reason: source.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESETS: [Preset; 4] = [Preset::Paper, Preset::Repo, Preset::Small, Preset::Tiny];

    #[test]
    fn every_preset_is_complete_and_reads_back_as_written() {
        for preset in PRESETS {
            let config = Config::preset(preset);
            assert_eq!(config.preset, preset);
            let text = config.to_toml().unwrap();
            assert_eq!(
                Config::resolve(Preset::Tiny, Some(&text), &[]).unwrap(),
                config
            );
        }
    }

    #[test]
    fn a_file_overrides_its_preset_and_a_setting_overrides_the_file() {
        let text = "preset = \"paper\"\nseed = 7\n[dino]\nlength = { steps = 9 }\nclip = 1.0\n";
        let settings = ["dino.clip=2.5".to_owned(), "device=cuda:1".to_owned()];
        let config = Config::resolve(Preset::Tiny, Some(text), &settings).unwrap();
        assert_eq!(config.preset, Preset::Paper);
        assert_eq!(config.seed, 7);
        assert_eq!(config.dino.length, Span::Steps(9));
        assert_eq!(config.dino.clip, 2.5);
        assert_eq!(
            config.dino.prototypes, 65536,
            "what the file leaves out is the preset's"
        );
        assert_eq!(config.device, "cuda:1");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        for text in [
            "speed = 3",
            "[dino]\nspeed = 3",
            "[mae]\nlength = { days = 3 }",
        ] {
            let error = Config::resolve(Preset::Tiny, Some(text), &[])
                .unwrap_err()
                .to_string();
            assert!(error.contains("speed") || error.contains("days"), "{error}");
        }
        let error = Config::resolve(Preset::Tiny, None, &["preset = small".into()]).unwrap_err();
        assert!(error.to_string().contains("--preset"), "{error}");
        let error = Config::resolve(Preset::Tiny, None, &["seed".into()]).unwrap_err();
        assert!(error.to_string().contains("KEY=VALUE"), "{error}");
    }
}
