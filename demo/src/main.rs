//! `fmct-demo`: a whole consortium on one machine, with nothing to set up.
//!
//! Four phantom hospitals and a coordinator, each a process of its own, found a consortium, federate
//! pre-training over mutually authenticated QUIC, fine-tune and validate. Phantoms are simulations:
//! what the tables show is about them.

mod alone;
mod consortium;
mod egress;
mod federation;
mod member;
mod process;
mod relay;
mod setting;
mod show;
mod study;
mod supervise;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use protocol::SiteId;

use setting::{Objective, Size};
use study::Arm;

/// Runs a consortium of phantom hospitals on this machine: federated pre-training, fine-tuning,
/// internal and external validation.
///
/// Research software: not for clinical use.
#[derive(Parser)]
#[command(
    name = "fmct-demo",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What a newcomer may choose.
#[derive(clap::Args)]
struct Options {
    /// Folder for everything the demo makes; a temporary one if absent, kept at the end
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What pre-training optimizes
    #[arg(long, value_enum, default_value = "mae")]
    objective: Objective,
    /// Hospitals, 2 to 4 (the default), or all in --data; the first is the internal one
    #[arg(long)]
    sites: Option<usize>,
    /// Prepared cohorts instead of phantoms: a folder with one folder for each hospital, as `import`,
    /// `labels`, `split` and `preprocess` leave them
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Local steps in a round; by size if absent
    #[arg(long)]
    steps: Option<u32>,
    /// Rounds of federated pre-training
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seed of patients, weights and draws
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Model and input size
    #[arg(long, value_enum, default_value = "tiny")]
    size: Size,
    /// Kill a hospital and the coordinator in the middle of a round, to watch them recover
    #[arg(long)]
    kill_one: bool,
    /// Open the report in a browser at the end
    #[arg(long)]
    open: bool,
    /// Scans in a batch of pre-training; by size if absent
    #[arg(long, hide = true)]
    batch: Option<usize>,
    /// Epochs of fine-tuning; by size if absent
    #[arg(long, hide = true)]
    epochs: Option<usize>,
    /// End when the federated model is exported
    #[arg(long, hide = true)]
    model_only: bool,
}

/// The processes of the demo; it starts itself again as each of them.
#[derive(Subcommand)]
enum Part {
    /// The internal hospital pre-trains without anybody.
    #[command(hide = true)]
    Alone {
        /// Folder of the demo
        dir: PathBuf,
    },
    /// A hospital takes part in the run.
    #[command(hide = true)]
    Member {
        /// Folder of the demo
        dir: PathBuf,
        /// Which hospital
        site: SiteId,
        /// Where the coordinator listens
        coordinator: String,
    },
    /// The coordinator serves until the run is finished.
    #[command(hide = true)]
    Serve {
        /// Folder of the demo
        dir: PathBuf,
        /// Where to listen
        listen: std::net::SocketAddr,
    },
    /// A hospital fine-tunes on its labels.
    #[command(hide = true)]
    Study {
        /// Folder of the demo
        dir: PathBuf,
        /// Which hospital
        site: SiteId,
        /// From what
        arm: Arm,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.part {
        None => show::run(&cli.options),
        Some(part) => {
            process::stop_with_parent();
            transport::logging::start();
            match part {
                Part::Alone { dir } => alone::run(&dir),
                Part::Member {
                    dir,
                    site,
                    coordinator,
                } => member::run(&dir, &site, coordinator),
                Part::Serve { dir, listen } => federation::serve(&dir, listen),
                Part::Study { dir, site, arm } => study::run(&dir, &site, arm),
            }
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
