//! The subcommands: each parses flags, calls the library, prints. One file each.

mod approve_plan;
mod attention;
mod describe;
mod doctor;
mod egress;
mod embed;
mod embed_cohort;
mod enroll;
mod evaluate;
mod few_shot;
mod finetune;
mod import;
mod init;
mod labels;
mod metrics;
mod phantom;
mod preprocess;
mod pretrain;
mod probe;
mod report;
mod reproduce;
mod run;
mod split;
mod stand_in;
mod sweep;
mod training;
mod trials;
mod watch;

use clap::Subcommand;

/// What `fmct-site` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Approve a plan by its digest: this site takes part in its run.
    ApprovePlan(approve_plan::Args),
    /// Draw what models look at over a scan, and write it as NIfTI.
    Attention(attention::Args),
    /// Print the table of characteristics of a cohort.
    Describe(describe::Args),
    /// Check identity, machine and network, and say what to ask for. Not while `run` is connected.
    Doctor(doctor::Args),
    /// Print what left this site.
    Egress(egress::Args),
    /// Embed preprocessed volumes with any released or own weights.
    Embed(embed::Args),
    /// Embed a cohort's test scans and describe the cohort, for the report.
    EmbedCohort(embed_cohort::Args),
    /// Join a consortium: make a key, ask for a certificate, take the answer.
    Enroll(enroll::Args),
    /// Turns a PACS export into a cohort: decodes, checks and de-identifies each head CT series.
    Import(import::Args),
    /// Score a cohort with a trained classifier.
    Evaluate(evaluate::Args),
    /// Learn each disease from K scans of each class, several times.
    FewShot(few_shot::Args),
    /// Fine-tune a backbone for each disease and score the test part once.
    Finetune(finetune::Args),
    /// Make the first checkpoint of a run.
    Init(init::Args),
    /// Make labels.csv from health records, RSNA 2019 or CQ500.
    Labels(labels::Args),
    /// Print AUC, average precision, intervals and tests of a predictions table.
    Metrics(metrics::Args),
    /// Simulate a cohort with known truth.
    Phantom(phantom::Args),
    /// Turns NIfTI scans into model input: one file, or a cohort into its cache.
    Preprocess(preprocess::Args),
    /// Pre-train a model by DINO or MAE on a site's own scans.
    Pretrain(pretrain::Args),
    /// Train a linear or attentive probe on frozen features.
    Probe(probe::Args),
    /// Write one page with all figures and tables of runs.
    Report(report::Args),
    /// Run the paper's whole single-site study.
    Reproduce(reproduce::Args),
    /// Take part in the runs of a consortium.
    Run(run::Args),
    /// Split a cohort by patient, or check or take over a split.
    Split(split::Args),
    /// Take part in rounds without model or data, to test a coordinator and a network.
    #[command(hide = true)]
    StandIn(stand_in::Args),
    /// Find the best that training from scratch can do.
    Sweep(sweep::Args),
    /// Print the coordinator's overview of its runs, as an observer.
    Watch(watch::Args),
}

/// A command that was asked to stop before its end and has saved what it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// Its last checkpoint is older than its last step.
    #[error(
        "stopped as asked after step {step}, whose checkpoint could not be written; --resume goes \
         on from the last one, of step {saved}"
    )]
    Behind {
        /// The last step done.
        step: u64,
        /// The step of the checkpoint.
        saved: u64,
    },
    /// All of it is saved.
    #[error("stopped as asked; --resume goes on")]
    Saved,
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::ApprovePlan(args) => approve_plan::run(args),
            Self::Attention(args) => attention::run(args),
            Self::Describe(args) => describe::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Egress(args) => egress::run(args),
            Self::Embed(args) => embed::run(args),
            Self::EmbedCohort(args) => embed_cohort::run(args),
            Self::Enroll(args) => enroll::run(args),
            Self::Evaluate(args) => evaluate::run(args),
            Self::FewShot(args) => few_shot::run(args),
            Self::Finetune(args) => finetune::run(args),
            Self::Init(args) => init::run(args),
            Self::Labels(args) => labels::run(args),
            Self::Import(args) => import::run(args),
            Self::Metrics(args) => metrics::run(args),
            Self::Phantom(args) => phantom::run(args),
            Self::Preprocess(args) => preprocess::run(args),
            Self::Report(args) => report::run(args),
            Self::Reproduce(args) => reproduce::run(args),
            Self::Run(args) => run::run(args),
            Self::Split(args) => split::run(args),
            Self::StandIn(args) => stand_in::run(args),
            Self::Pretrain(args) => pretrain::run(args),
            Self::Probe(args) => probe::run(args),
            Self::Sweep(args) => sweep::run(args),
            Self::Watch(args) => watch::run(args),
        }
    }
}
