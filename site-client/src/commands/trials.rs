//! What `finetune` and `probe` do alike: one model per group of tasks.

use std::path::PathBuf;

use site_client::train::downstream::{
    Classifier, Draw, Protocol, Trial, TrialNote, macro_auc_of, write_results,
};
use site_client::train::record::Progress;

use super::training::{
    ConfigArgs, DataArgs, ExternalArgs, backbone, device, named, start_name, task_groups,
};

/// Flags of both commands.
#[derive(clap::Args)]
pub(super) struct TrialArgs {
    /// A pre-training run's folder, a weight file, or `scratch` (for a probe: random features).
    #[arg(long, value_name = "CKPT|scratch")]
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
    /// Draws per epoch; the paper's were 5000, or 500 for CQ500.
    #[arg(long)]
    draws: Option<usize>,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &TrialArgs, protocol: Protocol) -> anyhow::Result<()> {
    let draws = args.draws.map(|draws| format!("finetune.draws={draws}"));
    let plan = &args.config.plan(&Vec::from_iter(draws))?;
    let device = device(plan)?;
    let backbone = backbone(&args.from)?;
    let set = args.data.open_labelled(plan, None)?;
    let seed = plan.config().seed;
    let trial = Trial {
        plan,
        protocol,
        backbone: backbone.as_ref(),
        seed,
        device: &device,
    };
    let (mut predictions, mut names, mut fits) = (Vec::new(), Vec::new(), Vec::new());
    for tasks in task_groups(&set, &args.tasks) {
        let set = set.of_tasks(&tasks)?;
        let external = args.external.open(plan, &set, &args.data)?;
        let draw = Draw::balanced(&set, plan.config().finetune.draws)?;
        let name = tasks.join("+");
        let epochs = plan.config().finetune.epochs as u64;
        let mut progress = Progress::start(Some(&args.out.join(&name)), 0, epochs, 1)?;
        let trained = trial.run(&set, &external, &draw, &mut |epoch, loss, auc| {
            progress.step(epoch as u64, &[("loss", loss), ("validation_auc", auc)]);
        })?;
        progress.finish();
        let path = args.out.join(format!("{name}.safetensors"));
        let (start, parameters) = (backbone.as_ref(), &trained.parameters);
        Classifier::save(&path, plan, protocol, &tasks, start, parameters)?;
        let tested = named(
            trained.predictions,
            start_name(&args.from),
            protocol.name(),
            &set,
        );
        println!(
            "{name}: epoch {}, validation AUC {:.3}, test AUC {:.3}",
            trained.fit.best_epoch,
            trained.fit.validation_auc,
            macro_auc_of(
                &tested,
                set.rows().first().and_then(|row| row.site.as_deref())
            ),
        );
        predictions.extend(tested);
        names.push(name);
        fits.push(trained.fit);
    }
    let notes: Vec<_> = names
        .iter()
        .zip(&fits)
        .map(|(name, fit)| TrialNote::fitted(name, protocol.name(), fit))
        .collect();
    write_results(&args.out, plan, predictions, &notes)?;
    println!(
        "predictions: {}",
        args.out.join("predictions.csv").display()
    );
    Ok(())
}
