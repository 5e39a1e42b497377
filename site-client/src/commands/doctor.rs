//! `doctor`: what stands between this machine and a round, and whom to ask.

use std::path::PathBuf;

use anyhow::{Context, bail};
use certs::{Home, Passphrase};
use site_client::clock;
use site_client::doctor::{Outcome, Subject, examine};
use transport::Config;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `enroll` made
    #[arg(long, env = "FMCT_SITE_DIR", default_value = ".")]
    dir: PathBuf,
    /// Where the coordinator listens, as host:port
    #[arg(long, env = "FMCT_COORDINATOR")]
    coordinator: String,
    /// Settings of the connection [default: transport.toml in --dir, if there is one]
    #[arg(long)]
    transport: Option<PathBuf>,
    /// HTTP proxy for the TCP path, as host:port, instead of the settings' one
    #[arg(long)]
    proxy: Option<String>,
    /// Directory that models and updates are kept in [default: --dir]
    #[arg(long)]
    work: Option<PathBuf>,
    /// Free space a round needs there, in GiB
    #[arg(long, default_value_t = 10)]
    needed_gib: u64,
    /// File (mode 0600) whose first line encrypts the private key
    #[arg(long, env = "FMCT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut transport = Config::read(args.transport.as_deref(), &args.dir)?;
    transport.proxy = args.proxy.or(transport.proxy);
    let subject = Subject {
        work: args.work.unwrap_or_else(|| args.dir.clone()),
        home: Home::new(args.dir),
        passphrase: args
            .passphrase_file
            .as_deref()
            .map(Passphrase::from_file)
            .transpose()?,
        coordinator: args.coordinator,
        transport,
        needed_bytes: args.needed_gib.saturating_mul(1 << 30),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")?;
    let mut failed = 0;
    runtime.block_on(examine(&subject, clock::now(), |finding| {
        failed += usize::from(finding.outcome == Outcome::Bad);
        println!("{finding}");
    }));
    match failed {
        0 => Ok(()),
        1 => bail!("doctor: 1 check failed"),
        many => bail!("doctor: {many} checks failed"),
    }
}
