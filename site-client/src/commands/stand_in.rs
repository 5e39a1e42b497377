//! `stand-in`: takes part in rounds without a model or data, to test a coordinator and a network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use certs::Home;
use protocol::{Params, Schema};
use site_client::federation::{ClientConfig, Everything, StandIn, run as take_part};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of this site
    #[arg(long, env = "FMCT_SITE_DIR")]
    dir: PathBuf,
    /// The coordinator, as host:port
    #[arg(long)]
    coordinator: String,
    /// First checkpoint of the run (safetensors), for names and shapes
    #[arg(long)]
    initial: PathBuf,
    /// Settings of the connection [default: transport.toml in --dir, if there is one]
    #[arg(long)]
    transport: Option<PathBuf>,
    /// Examples it claims to have
    #[arg(long, default_value_t = 100)]
    examples: u64,
    /// End after the first run that finishes
    #[arg(long)]
    until_finished: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let home = Home::new(&args.dir);
    let (identity, trust) = home.open(None)?;
    let trainer = StandIn {
        schema: schema(&args.initial)?,
        examples: args.examples,
    };
    let config = ClientConfig {
        coordinator: args.coordinator,
        transport: transport::Config::read(args.transport.as_deref(), &args.dir)?,
        directory: args.dir,
        home,
        until_finished: args.until_finished,
    };
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(take_part(
        config,
        Arc::new(identity),
        trust,
        Box::new(trainer),
        Arc::new(Everything),
        async {
            // Without a signal handler it runs until it is finished or killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        },
    ))?;
    Ok(())
}

fn schema(path: &Path) -> anyhow::Result<Schema> {
    let bytes =
        std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let params = Params::from_safetensors(&bytes)?;
    Ok(params.schema().clone())
}
