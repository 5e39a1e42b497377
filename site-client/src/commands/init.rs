//! `fmct-site init`: the first checkpoint of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use protocol::Digest;
use protocol::plan::Plan;
use site_client::device::DeviceChoice;
use site_client::federation::{first_checkpoint, local_plan};
use site_client::train::pretrain::backbone_for;
use site_client::weights::{self, HEADS, ModelSpec, Objective};

/// Makes new weights from a seed; the same seed gives the same file on every machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// vit_base, vit_small, vit_tiny, or a TOML file with a table `vit` and, optionally,
    /// `dino_head` and `mae`.
    #[arg(long, value_name = "NAME|FILE.toml", required_unless_present = "plan")]
    model: Option<String>,
    /// What the run trains.
    #[arg(long, value_enum, default_value = "backbone")]
    objective: Goal,
    /// Seed of the weights.
    #[arg(long, required_unless_present = "plan")]
    seed: Option<u64>,
    /// A federation's plan, which says model, objective and seed; its `initial` is written with the
    /// digest of the checkpoint.
    #[arg(long, value_name = "PLAN.toml", conflicts_with_all = ["model", "objective", "seed"])]
    plan: Option<PathBuf>,
    /// With --plan: pre-trained weights that the backbone starts from.
    #[arg(long, value_name = "WEIGHTS", requires = "plan")]
    from: Option<PathBuf>,
    /// Where the checkpoint is written.
    #[arg(long, value_name = "CKPT.safetensors")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    /// Fine-tuning or probing: the transformer alone.
    Backbone,
    /// Self-distillation: transformer and projection head.
    Dino,
    /// Masked autoencoding: encoder and decoder.
    Mae,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(plan) = &args.plan {
        return for_plan(plan, args.from.as_deref(), &args.out);
    }
    let (model, seed) = args
        .model
        .zip(args.seed)
        .context("--model and --seed, or --plan")?;
    let spec = match ModelSpec::named(&model) {
        Some(spec) => spec,
        None => {
            let text = fs::read_to_string(&model).with_context(|| {
                format!("model {model:?}: expected vit_base, vit_small, vit_tiny or a TOML file")
            })?;
            toml::from_str(&text).with_context(|| format!("{model}: invalid model"))?
        }
    };
    let objective = match args.objective {
        Goal::Backbone => Objective::Backbone,
        Goal::Dino => Objective::Dino,
        Goal::Mae => Objective::Mae,
    };
    let state = weights::fresh(&spec, objective, seed)?;
    let notes = BTreeMap::from([(HEADS.to_owned(), spec.vit.heads.to_string())]);
    weights::write(&args.out, &state, &notes)?;
    let values: usize = state.values().map(|tensor| tensor.values.len()).sum();
    println!(
        "{}: {} tensors, {values} values",
        args.out.display(),
        state.len()
    );
    Ok(())
}

/// The first checkpoint of a federation's plan, and its digest in the plan.
fn for_plan(path: &Path, from: Option<&Path>, out: &Path) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let plan = Plan::parse(text.as_bytes())?;
    let device = DeviceChoice::Cpu.open()?;
    let model = local_plan(plan.config(), plan.config().seed)?;
    let backbone = from
        .map(|weights| backbone_for(&model, weights).map(|(_, weights)| weights))
        .transpose()?;
    let first = first_checkpoint(plan.config(), backbone.as_ref(), &device)?;
    let bytes = first.to_safetensors();
    let digest = Digest::of(&bytes);
    let line = |line: &str| {
        line.split('=')
            .next()
            .is_some_and(|key| key.trim() == "initial")
    };
    let pinned: Vec<String> = text
        .lines()
        .map(|text| {
            if line(text) {
                format!("initial = \"{digest}\"")
            } else {
                text.to_owned()
            }
        })
        .collect();
    let pinned = pinned.join("\n") + "\n";
    let checked = Plan::parse(pinned.as_bytes())?;
    ensure!(
        checked.config().initial == digest,
        "{}: expected `initial = \"...\"` on a line of its own",
        path.display()
    );
    fs::write(out, bytes).with_context(|| format!("cannot write {}", out.display()))?;
    fs::write(path, pinned).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: {} values", out.display(), first.schema().elements());
    println!("initial {digest}, now in {}", path.display());
    println!("plan {}", checked.digest());
    Ok(())
}
