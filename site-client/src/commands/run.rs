//! `run`: take part in the runs of a consortium.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use certs::{Home, Passphrase};
use site_client::device::DeviceChoice;
use site_client::federation::{
    self, Approvals, ClientConfig, LocalTraining, Policy, PolicyApproval,
};
use site_client::train::{Plan, TrainError};
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
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        federation::run(config, Arc::new(identity), trust, trainer, approval, stop).await?;
        Ok(())
    })
}
