//! What `finetune` and `probe` do alike: one model per group of tasks.

use std::path::PathBuf;

use site_client::train::data::Reading;
use site_client::train::downstream::{
    Classifier, Draw, Protocol, Results, Trial, TrialNote, macro_auc_of,
};
use site_client::train::record::Progress;

use super::training::{
    ConfigArgs, DataArgs, ExternalArgs, Sets, device, named, start, start_name, task_groups,
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

/// Trains by `protocol`; `settings` are those of the command's own flags.
pub(super) fn run(
    args: &TrialArgs,
    protocol: Protocol,
    mut settings: Vec<String>,
) -> anyhow::Result<()> {
    let draws = args.draws.map(|draws| format!("finetune.draws={draws}"));
    settings.extend(draws);
    let plan = args.config.plan(&settings)?;
    let (plan, backbone) = start(plan, &args.from)?;
    let device = device(&plan)?;
    let training = match protocol {
        Protocol::Finetune => Reading::Training,
        Protocol::AttentiveProbe | Protocol::LinearProbe => Reading::Evaluation,
    };
    let whole = args.data.open_labelled(&plan, training, None)?;
    let groups = task_groups(&whole, &args.tasks);
    let external = |set: &_| args.external.open(&plan, set, &args.data);
    let sets = Sets::open(&whole, &groups, external)?;
    let trial = Trial {
        plan: &plan,
        protocol,
        backbone: backbone.as_ref(),
        seed: plan.config().seed,
        device: &device,
    };
    let ready = trial.ready(&sets.own, &sets.external)?;
    let mut results = Results::begin(&args.out, &plan)?;
    for tasks in groups {
        let sets = sets.of_tasks(&tasks)?;
        let draw = Draw::balanced(&sets.own, plan.config().finetune.draws)?;
        let name = tasks.join("+");
        let epochs = plan.config().finetune.epochs as u64;
        let mut progress = Progress::start(Some(&args.out.join(&name)), 0, epochs, 1)?;
        let trained = ready.run(&sets.own, &sets.external, &draw, &mut |epoch, loss, auc| {
            progress.step(epoch as u64, &[("loss", loss), ("validation_auc", auc)]);
        })?;
        progress.finish();
        let path = args.out.join(format!("{name}.safetensors"));
        let (start, parameters) = (backbone.as_ref(), &trained.parameters);
        Classifier::save(&path, &plan, protocol, &tasks, start, parameters)?;
        let (from, how) = (start_name(&args.from), protocol.name());
        let tested = named(trained.predictions, from, how, &sets.own);
        println!(
            "{name}: epoch {}, validation AUC {:.3}, test AUC {:.3}",
            trained.fit.best_epoch,
            trained.fit.validation_auc,
            macro_auc_of(&tested, sets.site()),
        );
        results.note(&TrialNote::fitted(&name, how, &trained.fit))?;
        results.add(tested)?;
    }
    println!(
        "predictions: {}",
        args.out.join("predictions.csv").display()
    );
    Ok(())
}
