//! The subcommands: each parses flags, calls the library, prints. One file each.

mod approve_plan;
mod attention;
mod doctor;
mod embed;
mod enroll;
mod init;
mod metrics;
mod preprocess;
mod report;
mod stand_in;

use clap::Subcommand;

/// What `fmct-site` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Approve a plan by its digest: this site takes part in its run.
    ApprovePlan(approve_plan::Args),
    /// Draw what models look at over a scan, and write it as NIfTI.
    Attention(attention::Args),
    /// Check identity, machine and network, and say what to ask for. Not while `run` is connected.
    Doctor(doctor::Args),
    /// Embed preprocessed volumes with any released or own weights.
    Embed(embed::Args),
    /// Join a consortium: make a key, ask for a certificate, take the answer.
    Enroll(enroll::Args),
    /// Make the first checkpoint of a run.
    Init(init::Args),
    /// Print AUC, average precision, intervals and tests of a predictions table.
    Metrics(metrics::Args),
    /// Turns NIfTI scans into model input: one file, or a cohort into its cache.
    Preprocess(preprocess::Args),
    /// Write one page with all figures and tables of runs.
    Report(report::Args),
    /// Take part in rounds without model or data, to test a coordinator and a network.
    #[command(hide = true)]
    StandIn(stand_in::Args),
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::ApprovePlan(args) => approve_plan::run(args),
            Self::Attention(args) => attention::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Embed(args) => embed::run(args),
            Self::Enroll(args) => enroll::run(args),
            Self::Init(args) => init::run(args),
            Self::Metrics(args) => metrics::run(args),
            Self::Preprocess(args) => preprocess::run(args),
            Self::Report(args) => report::run(args),
            Self::StandIn(args) => stand_in::run(args),
        }
    }
}
