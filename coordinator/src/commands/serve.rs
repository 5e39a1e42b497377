//! `serve`: the coordinator's one process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator::membership::Membership;
use coordinator::service::{Clock, Coordinator, Options, Server, blobs_path};
use coordinator::web;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use transport::{BlobStore, Listener};

use super::directory::Directory;
use super::token;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// Address for sites, UDP and TCP
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Address of the status page, `/metrics` and `/healthz`
    #[arg(long, default_value = "127.0.0.1:8444")]
    http: SocketAddr,
    /// File (mode 0600) whose first line is the token of the status page; needed unless it is on
    /// loopback
    #[arg(long)]
    http_token_file: Option<PathBuf>,
    /// Settings of connections [default: transport.toml in --dir, if there is one]
    #[arg(long)]
    transport: Option<PathBuf>,
    /// Newest rounds of the run in work whose updates are kept for `replay`, which passes over the
    /// others; all rounds of all runs if absent
    #[arg(long)]
    keep_rounds: Option<u32>,
    /// End when every launched run is finished
    #[arg(long)]
    until_idle: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    crate::logging::start();
    let token = page_token(&args)?;
    let home = args.directory.home();
    let config = transport::Config::read(args.transport.as_deref(), home.home().dir())?;
    let passphrase = args.directory.secret.read()?;
    let (identity, trust) = home.home().open(passphrase.as_ref())?;
    let directory = home.home().dir().to_owned();
    let identity = Arc::new(identity);
    let options = Options {
        keep_rounds: args.keep_rounds,
    };
    let clock = Clock::start();
    let coordinator = Coordinator::open(&directory, Arc::clone(&identity), options, clock.now())?;
    let store = BlobStore::open(blobs_path(&directory))?;
    let heartbeat = Duration::from_secs(config.heartbeat_seconds);
    let membership = Arc::new(Membership::new(home, trust.clone(), passphrase));
    let server = Server::new(
        coordinator,
        store,
        Arc::clone(&membership),
        clock,
        args.until_idle,
    );
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        let listener = Listener::bind(args.listen, config, identity, trust).await?;
        let page = TcpListener::bind(args.http)
            .await
            .with_context(|| format!("failed to listen on {}", args.http))?;
        let (sites, people) = (listener.local_addr(), page.local_addr()?);
        std::fs::write(directory.join(ADDRESS_FILE), format!("{people}\n"))
            .context("failed to note the status page's address")?;
        tracing::info!(%sites, %people, "serving");
        println!("sites: {sites}");
        println!("status: http://{people}/");
        let follow = tokio::spawn(membership.follow(heartbeat / 2));
        let (stop, stopped) = watch::channel(false);
        let page = tokio::spawn(web::serve(page, server.overview(), token, wait(stopped)));
        let served = server.run(listener, interrupted()?).await;
        stop.send_replace(true);
        // Browsers keep event streams open; they are not waited for.
        page.abort();
        follow.abort();
        served.map_err(anyhow::Error::from)
    })
}

/// SIGTERM or SIGINT.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to await signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to await signals")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is the server.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn page_token(args: &Args) -> anyhow::Result<Option<String>> {
    let Some(path) = &args.http_token_file else {
        if !args.http.ip().is_loopback() {
            bail!(
                "--http {}: not on loopback, so --http-token-file is needed",
                args.http
            );
        }
        return Ok(None);
    };
    token::read(path).map(Some)
}

/// Where `status` finds the address of the page.
pub(super) const ADDRESS_FILE: &str = "status-address";
