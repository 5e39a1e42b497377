//! `fmct-site few-shot`: K scans of each class.

use std::path::PathBuf;

use clap::ValueEnum;
use core_model::heads::ProbeKind;
use site_client::evaluate::Part;
use site_client::train::data::Reading;
use site_client::train::downstream::{
    Draw, Protocol, Results, Rule, Trial, TrialNote, classify, macro_auc_of,
};

use super::training::{
    ConfigArgs, DataArgs, ModelArgs, Sets, device, named, start, start_name, task_groups,
};

/// Learns each disease from K scans of each class, several times; only the training scans are drawn
/// anew, validation and test stay whole.
///
/// Writes predictions.csv (column `run` names K and the repeat), trials.jsonl and config.toml; a
/// repeat that is trained stays, whatever becomes of the next.
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pre-training run's folder, a weight file, or `scratch`.
    #[arg(long, value_name = "CKPT|scratch")]
    from: String,
    /// Scans per class, as 8,16,32; the configuration's otherwise.
    #[arg(long, value_delimiter = ',')]
    k: Vec<usize>,
    /// Draws of the training scans per K.
    #[arg(long)]
    repeats: Option<usize>,
    /// What learns: full fine-tuning as in the paper's figures, or a rule on frozen features.
    #[arg(long, value_enum, default_value = "finetune")]
    classifier: Kind,
    /// `each` disease, or a list of diseases.
    #[arg(long, default_value = "each")]
    tasks: String,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Finetune,
    Knn,
    Prototypical,
    Simpleshot,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut settings = args.model.settings();
    if !args.k.is_empty() {
        settings.push(format!("few_shot.shots={:?}", args.k));
    }
    settings.extend(
        args.repeats
            .map(|repeats| format!("few_shot.repeats={repeats}")),
    );
    let plan = args.config.plan(&settings)?;
    anyhow::ensure!(
        args.tasks != "all",
        "--tasks all: K scans per class are drawn per disease"
    );
    let (plan, backbone) = start(plan, &args.from)?;
    let device = device(&plan)?;
    let config = plan.config();
    let rule = match args.classifier {
        Kind::Finetune => None,
        Kind::Knn => Some(Rule::NearestNeighbors {
            k: config.few_shot.neighbors,
        }),
        Kind::Prototypical => Some(Rule::Prototypical),
        Kind::Simpleshot => Some(Rule::SimpleShot),
    };
    // A rule decides by features, which are those of scans as they are scored.
    let training = rule.map_or(Reading::Training, |_| Reading::Evaluation);
    let whole = args.data.open_labelled(&plan, training, None)?;
    let groups = task_groups(&whole, &args.tasks);
    let sets = Sets::open(&whole, &groups, |_| Ok(Vec::new()))?;
    let trial = Trial {
        plan: &plan,
        protocol: Protocol::Finetune,
        backbone: backbone.as_ref(),
        seed: config.seed,
        device: &device,
    };
    let features = match rule {
        Some(_) => Some(trial.features(ProbeKind::Linear, &sets.own, &sets.own.labelled())?),
        None => None,
    };
    let protocol = args
        .classifier
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    let mut results = Results::begin(&args.out, &plan)?;
    for tasks in groups {
        let set = sets.own.of_tasks(&tasks)?;
        let mut predictions = Vec::new();
        let classes = set.classes(0, Part::Train)?;
        let test = set.part(Part::Test);
        for &k in &config.few_shot.shots {
            for repeat in 0..config.few_shot.repeats as u64 {
                let (few, repeated) = classes.few(config.seed, repeat, k);
                if repeated && repeat == 0 {
                    let (positive, negative) = (classes.positive.len(), classes.negative.len());
                    tracing::warn!(
                        task = &*tasks[0],
                        k,
                        positive,
                        negative,
                        "K exceeds a class: its scans are drawn with replacement"
                    );
                }
                let (tested, fit) = match (rule, &features) {
                    (Some(rule), Some(features)) => {
                        let scores = classify(rule, features, &few, &test);
                        (set.predictions(&test, &scores), None)
                    }
                    _ => {
                        let trial = Trial {
                            seed: config.seed.wrapping_add(repeat),
                            ..trial.clone()
                        };
                        let trained = trial.run(&set, &[], &Draw::Shots(few), &mut |_, _, _| {})?;
                        (trained.predictions, Some(trained.fit))
                    }
                };
                let mut tested = named(tested, start_name(&args.from), &protocol, &set);
                for row in &mut tested {
                    row.run = Some(format!("k{k}-r{repeat}").into());
                }
                let auc = macro_auc_of(&tested, sets.site());
                predictions.extend(tested);
                // The whole table is written anew each time: worth it for a training, not for a rule.
                if fit.is_some() {
                    results.add(std::mem::take(&mut predictions))?;
                }
                let fitted = fit.map(|fit| TrialNote::fitted(&tasks[0], &protocol, &fit));
                results.note(&TrialNote {
                    tasks: &tasks[0],
                    protocol: &protocol,
                    shots: Some(k),
                    repeat: Some(repeat),
                    ..fitted.unwrap_or_default()
                })?;
                println!("{} K {k} repeat {repeat}: test AUC {auc:.3}", tasks[0]);
            }
        }
        results.add(predictions)?;
    }
    Ok(())
}
