//! `fmct-site sweep`: the best that training from scratch can do.

use std::path::PathBuf;

use anyhow::Context;
use site_client::train::data::{Labelled, Reading};
use site_client::train::downstream::{
    Classifier, Combination, Draw, Fitted, Protocol, Results, Trial, TrialNote, grid, macro_auc_of,
    write_config,
};
use site_client::train::{Config, Plan, TrainError};

use super::training::{
    ConfigArgs, DataArgs, ExternalArgs, ModelArgs, Sets, device, named, start, start_name,
    task_groups,
};

/// Trains every combination of learning rate, weight decay, epochs and optimizer, and keeps the one
/// with the best validation AUC; it alone is scored on the test part, once.
///
/// Writes what `finetune` writes; trials.jsonl has a line for each combination, and the folder of
/// each model the config.toml of the one kept.
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
    model: ModelArgs,
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
    let (plan, backbone) = start(args.config.plan(&args.model.settings())?, &args.from)?;
    let device = device(&plan)?;
    let whole = args.data.open_labelled(&plan, Reading::Training, None)?;
    let groups = task_groups(&whole, &args.tasks);
    let external = |set: &_| args.external.open(&plan, set, &args.data);
    let sets = Sets::open(&whole, &groups, external)?;
    let mut results = Results::begin(&args.out, &plan)?;
    let alone = groups.len() == 1;
    for tasks in groups {
        let sets = sets.of_tasks(&tasks)?;
        let name = tasks.join("+");
        let trial = Trial {
            plan: &plan,
            protocol: Protocol::Finetune,
            backbone: backbone.as_ref(),
            seed: plan.config().seed,
            device: &device,
        };
        let Chosen { plan, fitted } = choose(&trial, &name, &sets.own, &mut results)?;
        write_config(&args.out.join(&name), &plan)?;
        if alone {
            write_config(&args.out, &plan)?;
        }
        let path = args.out.join(format!("{name}.safetensors"));
        let (protocol, start, parameters) =
            (Protocol::Finetune, backbone.as_ref(), fitted.parameters());
        Classifier::save(&path, &plan, protocol, &tasks, start, &parameters)?;
        let tested = fitted.test(&sets.own, &sets.external)?;
        let tested = named(tested, start_name(&args.from), "sweep", &sets.own);
        let (auc, test) = (
            fitted.fit.validation_auc,
            macro_auc_of(&tested, sets.site()),
        );
        println!("{name}: best validation AUC {auc:.3}, test AUC {test:.3}");
        results.note(&TrialNote {
            combination: Some((&plan.config().finetune).into()),
            ..TrialNote::fitted(&name, "sweep", &fitted.fit)
        })?;
        results.add(tested)?;
    }
    Ok(())
}

/// The combination with the best validation AUC.
struct Chosen {
    plan: Plan,
    fitted: Fitted,
}

/// Trains every combination; the test part stays unseen. One that diverges is noted and is out.
fn choose(
    trial: &Trial<'_>,
    name: &str,
    set: &Labelled,
    results: &mut Results,
) -> anyhow::Result<Chosen> {
    let mut best: Option<Chosen> = None;
    for finetune in grid(trial.plan) {
        let combination = Combination::from(&finetune);
        let draw = Draw::balanced(set, finetune.draws)?;
        let tried = Plan::new(Config {
            finetune,
            ..trial.plan.config().clone()
        })?;
        let trial = Trial {
            plan: &tried,
            ..trial.clone()
        };
        let ready = trial.ready(set, &[])?;
        let outcome = ready.fit(set, &draw, &mut |_, _, _| {});
        let failed = match &outcome {
            Ok(fitted) if fitted.fit.validation_auc.is_nan() => {
                Some("validation scores are not numbers, expected a finite number".to_owned())
            }
            Err(fault @ TrainError::Diverged { .. }) => Some(fault.to_string()),
            _ => None,
        };
        if let Some(failed) = failed {
            println!("{name}: {combination}: {failed}");
            results.note(&TrialNote {
                tasks: name,
                protocol: "combination",
                combination: Some(combination),
                failed: Some(failed),
                ..TrialNote::default()
            })?;
            continue;
        }
        let fitted = outcome?;
        let auc = fitted.fit.validation_auc;
        println!("{name}: {combination}: validation AUC {auc:.3}");
        results.note(&TrialNote {
            combination: Some(combination),
            ..TrialNote::fitted(name, "combination", &fitted.fit)
        })?;
        let better = |kept: &Chosen| auc > kept.fitted.fit.validation_auc;
        if best.as_ref().is_none_or(better) {
            best = Some(Chosen {
                plan: tried,
                fitted,
            });
        }
    }
    best.with_context(|| format!("{name}: every combination of the sweep diverged"))
}
