//! The checked form of a configuration: only a plan runs.

mod check;

use core_model::ssl::dino::{DinoHeadConfig, DinoLossConfig};
use core_model::ssl::mae::MaeConfig as MaeShape;
use core_model::ssl::views::{Augmentation, ViewGeometry};
use core_model::vit::{VitConfig, VitShape};

use super::{Config, Preset, Span, TrainError};
pub(crate) use check::require_vit;
use check::{check, rule};

/// A configuration whose every field keeps its rule, with the shapes of the models it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    config: Config,
    vit: VitConfig,
    dino_head: DinoHeadConfig,
    mae: MaeShape,
    views: ViewGeometry,
}

impl Plan {
    /// Checks a configuration.
    ///
    /// # Errors
    ///
    /// The first field that breaks its rule, with its name, the rule and what was found.
    pub fn new(config: Config) -> Result<Self, TrainError> {
        check(&config)?;
        let refused = |error: core_model::error::ConfigError| TrainError::config(error.to_string());
        let model = &config.model;
        let vit = VitConfig::new(VitShape {
            image: model.input,
            patch: model.patch,
            channels: model.channels,
            dim: model.dim,
            depth: model.depth,
            heads: model.heads,
            mlp: model.mlp,
            qkv_bias: model.qkv_bias,
            registers: model.registers,
        })
        .map_err(refused)?;
        let dino_head = DinoHeadConfig {
            layers: config.dino.head_layers,
            hidden: config.dino.head_hidden,
            bottleneck: config.dino.head_bottleneck,
            prototypes: config.dino.prototypes,
            batch_norm: config.dino.head_batch_norm,
        };
        dino_head.check().map_err(refused)?;
        let mae = MaeShape {
            decoder_dim: config.mae.decoder_dim,
            decoder_depth: config.mae.decoder_depth,
            decoder_heads: config.mae.decoder_heads,
            decoder_mlp: config.mae.decoder_mlp,
            mask_ratio: config.mae.mask_ratio,
            norm_pix_loss: config.mae.norm_pix_loss,
        };
        mae.check().map_err(refused)?;
        let (patches, ratio) = (vit.patches(), mae.mask_ratio);
        let kept = (patches as f64 * (1.0 - ratio)) as usize;
        rule(
            "mae.mask_ratio",
            &format!("must keep and hide at least one of {patches} patches"),
            format!("{ratio}, which keeps {kept}"),
            kept > 0 && kept < patches,
        )?;
        let dino = &config.dino;
        let views = ViewGeometry {
            cube: dino.cube,
            local_cube: dino.local_cube,
            global_crop: dino.global_crop,
            local_crop: dino.local_crop,
            global_views: dino.global_views,
            local_views: dino.local_views,
            size: model.input,
        };
        views.check().map_err(refused)?;
        let plan = Self {
            vit,
            dino_head,
            mae,
            views,
            config,
        };
        plan.dino_augmentation().check().map_err(refused)?;
        Ok(plan)
    }

    /// How DINO's views are cut.
    #[must_use]
    pub fn views(&self) -> &ViewGeometry {
        &self.views
    }

    /// How DINO's global views are augmented.
    #[must_use]
    pub fn dino_augmentation(&self) -> Augmentation {
        let dino = &self.config.dino;
        Augmentation {
            flip: dino.flip,
            shift: dino.shift,
            smooth_probability: dino.smooth_gamma,
            gamma_probability: dino.smooth_gamma,
            ..Augmentation::dino()
        }
    }

    /// The plan of a preset as it is.
    ///
    /// # Panics
    ///
    /// Never: every preset is checked by a test.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        Self::new(Config::preset(preset)).expect("presets keep the rules")
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Shape of the backbone.
    #[must_use]
    pub fn vit(&self) -> &VitConfig {
        &self.vit
    }

    /// Shape of the backbone for MAE, which knows no registers.
    pub(crate) fn mae_encoder(&self) -> VitConfig {
        self.vit.clone().with_registers(0)
    }

    /// Shape of the DINO head.
    #[must_use]
    pub fn dino_head(&self) -> &DinoHeadConfig {
        &self.dino_head
    }

    /// Temperatures and momentum of the DINO loss.
    pub(crate) fn dino_loss(&self) -> DinoLossConfig {
        DinoLossConfig {
            student_temp: self.config.dino.student_temperature,
            center_momentum: self.config.dino.center_momentum,
        }
    }

    /// Shape of the MAE decoder.
    #[must_use]
    pub fn mae(&self) -> &MaeShape {
        &self.mae
    }
}

impl Span {
    /// Length in steps, in a run of `total` steps over `scans` scans at `batch` scans per step.
    pub(crate) fn steps(self, total: u64, scans: usize, batch: usize) -> u64 {
        match self {
            Self::Epochs(epochs) => (epochs * scans as f64 / batch as f64).round() as u64,
            Self::Fraction(fraction) => (fraction * total as f64).round() as u64,
            Self::Steps(steps) => steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_plan_and_the_published_ones_are_vit_base() {
        for preset in [Preset::Paper, Preset::Repo, Preset::Small, Preset::Tiny] {
            let plan = Plan::preset(preset);
            if matches!(preset, Preset::Paper | Preset::Repo) {
                assert_eq!(plan.vit().patches(), 512);
                assert_eq!(plan.vit().dim, 768);
            }
        }
    }

    #[test]
    fn a_broken_rule_is_named_with_field_rule_and_value() {
        for (setting, parts) in [
            ("model.patch=5", ["patch", "image"]),
            ("model.channels=2", ["model.channels", "found 2"]),
            ("dino.global_batch=33", ["dino.global_batch", "33 and 32"]),
            ("mae.mask_ratio=1.0", ["mask_ratio", "found 1"]),
            (
                "mae.mask_ratio=0.99",
                ["mae.mask_ratio", "64 patches, found 0.99, which keeps 0"],
            ),
            (
                "dino.length={ fraction = 0.5 }",
                ["dino.length", "Fraction"],
            ),
            ("finetune.betas=[0.9, 1.0]", ["finetune.betas", "1.0"]),
            ("few_shot.shots=[]", ["few_shot.shots", "found 0"]),
            ("pretrain.fraction=0.0", ["pretrain.fraction", "(0, 1]"]),
            ("pretrain.devices=2", ["pretrain.devices", "found 2"]),
            (
                "pretrain.precision=bfloat16",
                ["must be float32 on the CPU", "found bfloat16"],
            ),
        ] {
            let config = Config::resolve(Preset::Tiny, None, &[setting.to_owned()]).unwrap();
            let error = Plan::new(config).unwrap_err().to_string();
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{setting}: {error}"
            );
        }
    }

    #[test]
    fn a_span_in_epochs_counts_the_scans_of_the_site() {
        assert_eq!(Span::Epochs(2.0).steps(0, 1000, 64), 31);
        assert_eq!(Span::Fraction(0.1).steps(400, 1000, 64), 40);
        assert_eq!(Span::Steps(7).steps(400, 1000, 64), 7);
    }
}
