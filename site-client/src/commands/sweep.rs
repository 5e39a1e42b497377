//! `fmct-site sweep`: the best that training from scratch can do.

use std::path::PathBuf;

use site_client::train::downstream::{
    Classifier, Draw, Protocol, Trial, TrialNote, grid, macro_auc_of, write_results,
};
use site_client::train::{Config, Plan};

use super::training::{
    ConfigArgs, DataArgs, ExternalArgs, backbone, device, named, start_name, task_groups,
};

/// Trains every combination of learning rate, weight decay, epochs and optimizer, and keeps the one
/// with the best validation AUC; its test predictions are the only ones written.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `scratch` as in the paper; a weight file tunes a pre-trained model the same way.
    #[arg(long, value_name = "CKPT|scratch", default_value = "scratch")]
    from: String,
    /// `each` trains one binary model per disease, `all` one model of all; or a list of diseases.
    #[arg(long, default_value = "each")]
    tasks: String,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    external: ExternalArgs,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let plan = args.config.plan(&[])?;
    let device = device(&plan)?;
    let backbone = backbone(&args.from)?;
    let whole = args.data.open_labelled(&plan, None)?;
    let (seed, protocol) = (plan.config().seed, Protocol::Finetune);
    let (mut predictions, mut fits) = (Vec::new(), Vec::new());
    for tasks in task_groups(&whole, &args.tasks) {
        let set = whole.of_tasks(&tasks)?;
        let external = args.external.open(&plan, &set, &args.data)?;
        let name = tasks.join("+");
        let mut best = None;
        for finetune in grid(&plan) {
            let draw = Draw::balanced(&set, finetune.draws)?;
            let tried = Plan::new(Config {
                finetune,
                ..plan.config().clone()
            })?;
            let start = backbone.as_ref();
            let trial = Trial {
                plan: &tried,
                protocol,
                backbone: start,
                seed,
                device: &device,
            };
            let trained = trial.run(&set, &external, &draw, &mut |_, _, _| {})?;
            let config = &tried.config().finetune;
            println!(
                "{name}: lr {:e}, weight decay {:e}, {} epochs, {:?}: validation AUC {:.3}",
                config.head_lr,
                config.weight_decay,
                config.epochs,
                config.optimizer,
                trained.fit.validation_auc
            );
            let auc = trained.fit.validation_auc;
            if best.as_ref().is_none_or(|(_, kept, _)| auc > *kept) {
                best = Some((trained, auc, tried));
            }
        }
        let Some((trained, auc, tried)) = best else {
            continue;
        };
        let path = args.out.join(format!("{name}.safetensors"));
        std::fs::create_dir_all(&args.out)?;
        let start = backbone.as_ref();
        Classifier::save(&path, &tried, protocol, &tasks, start, &trained.parameters)?;
        let tested = named(trained.predictions, start_name(&args.from), "sweep", &set);
        let site = set.rows().first().and_then(|row| row.site.as_deref());
        println!(
            "{name}: best validation AUC {auc:.3}, test AUC {:.3}",
            macro_auc_of(&tested, site)
        );
        predictions.extend(tested);
        fits.push((name, trained.fit));
    }
    let notes: Vec<_> = fits
        .iter()
        .map(|(name, fit)| TrialNote::fitted(name, "sweep", fit))
        .collect();
    write_results(&args.out, &plan, predictions, &notes)?;
    Ok(())
}
