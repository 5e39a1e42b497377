//! `run`: take part in the runs of a consortium.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::{Home, Passphrase};
use site_client::device::DeviceChoice;
use site_client::federation::{
    self, Approvals, ClientConfig, LocalTraining, Policy, PolicyApproval,
};
use site_client::train::{Plan, TrainError};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::training::DataArgs;

/// Takes part in every run that this site's policy allows, until told to stop.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `enroll` made; `policy.toml` and the site's state are in it too.
    #[arg(long, env = "FMCT_SITE_DIR")]
    dir: PathBuf,
    /// The coordinator, as host:port.
    #[arg(long)]
    coordinator: String,
    /// Settings of the connection [default: transport.toml in --dir, if there is one].
    #[arg(long)]
    transport: Option<PathBuf>,
    /// File (mode 0600) whose first line opens the private key.
    #[arg(long, env = "FMCT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// End after the first run that finishes.
    #[arg(long)]
    until_finished: bool,
    /// cpu, cuda or cuda:NUMBER.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    #[command(flatten)]
    data: DataArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let passphrase = args
        .passphrase_file
        .as_deref()
        .map(Passphrase::from_file)
        .transpose()?;
    let home = Home::new(&args.dir);
    let (identity, trust) = home.open(passphrase.as_ref())?;
    let policy = Policy::load(&args.dir)?;
    let approvals = Approvals::load(&args.dir)?;
    let (data, device) = (args.data, args.device.open()?);
    // Each federation says for which preset scans are wanted.
    let open = move |plan: &Plan| {
        let opened = data.open_for_rounds(plan);
        opened.map_err(|error| TrainError::Data {
            reason: format!("{error:#}"),
        })
    };
    let trainer = Box::new(LocalTraining::opening(open, device));
    let config = ClientConfig {
        coordinator: args.coordinator,
        transport: transport::Config::read(args.transport.as_deref(), &args.dir)?,
        directory: args.dir,
        home,
        until_finished: args.until_finished,
    };
    let approval = Arc::new(PolicyApproval { policy, approvals });
    let runtime = Runtime::new().context("failed to start the runtime")?;
    let work = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        federation::run(config, Arc::new(identity), trust, trainer, approval, stop).await?;
        anyhow::Ok(())
    };
    complete(runtime, PATIENCE, work)
}

/// Does `work`, and then waits for what it left behind at most that long: a step of training does not
/// heed its cancel before its end, and what it was for is resumed at the next start.
fn complete<T>(runtime: Runtime, patience: Duration, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(patience);
    done
}

/// Time for the step under way when the process is told to end.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use clap::{Args as _, Command};

    use super::*;

    #[test]
    fn a_step_that_never_ends_does_not_keep_the_process_from_ending() {
        let (end, ended) = mpsc::channel::<()>();
        let work = async {
            tokio::task::spawn_blocking(move || ended.recv());
            "told to end"
        };
        let done = complete(Runtime::new().unwrap(), Duration::ZERO, work);
        assert_eq!(done, "told to end");
        drop(end);
    }

    #[test]
    fn the_service_names_the_coordinator_and_the_cohort() {
        let unit = include_str!("../../../deploy/fmct-site.service");
        let lines = include_str!("../../../deploy/site.env").lines();
        let set = lines.filter(|line| !line.starts_with('#'));
        let variables: BTreeMap<_, _> = set.filter_map(|line| line.split_once('=')).collect();
        let mut lines = unit.lines();
        let line = lines.find_map(|line| line.strip_prefix("ExecStart=/usr/bin/fmct-site "));
        let words = line.unwrap().split_whitespace().flat_map(|word| {
            // As systemd does: `${NAME}` is one word, `$NAME` as many as it holds.
            match (word.strip_prefix("${"), word.strip_prefix('$')) {
                (Some(name), _) => vec![variables[name.trim_end_matches('}')]],
                (_, Some(name)) => variables[name].split_whitespace().collect(),
                _ => vec![word],
            }
        });
        let directory = ["--dir", "/var/lib/fmct-site"];
        let command = Args::augment_args(Command::new("run"));
        let matches = command
            .try_get_matches_from(words.chain(directory))
            .unwrap();
        let coordinator: &String = matches.get_one("coordinator").unwrap();
        assert_eq!(coordinator, variables["FMCT_COORDINATOR"]);
        let cohort: &PathBuf = matches.get_one("cohort").unwrap();
        assert_eq!(cohort.to_str(), Some(variables["FMCT_COHORT"]));
    }
}
