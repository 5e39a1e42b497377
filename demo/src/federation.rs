//! The coordinator's side: the plan, the launch, and the library calls behind
//! `fmct-coordinator serve` and `export`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use burn::tensor::Device;
use certs::{AuthorityHome, Home};
use coordinator::blobs::Blobs;
use coordinator::journal::Journal;
use coordinator::membership::Membership;
use coordinator::service::{
    Clock, Coordinator, Initial, Network, Options, Server, blobs_path, export_model, launch,
    matrix, model_card,
};
use fmct_demo::schedules;
use protocol::plan::Plan;
use protocol::{Digest, RunId, Timestamp};
use site_client::federation::{CENTER, first_checkpoint};
use transport::{BlobStore, Listener};

use crate::consortium::Consortium;
use crate::setting::{Objective, Setting, Size};

/// Makes the first checkpoint, writes the plan and launches the run.
pub(crate) fn launch_run(dir: &Path, setting: &Setting, now: Timestamp) -> anyhow::Result<()> {
    let nobody = "0".repeat(64);
    let draft = Plan::parse(plan(setting, &nobody)?.as_bytes())?;
    let first = first_checkpoint(draft.config(), None, &Device::flex())?;
    let checkpoint = dir.join("first.safetensors");
    fs::write(&checkpoint, first.to_safetensors())?;
    let initial = Initial::open(&checkpoint)?;
    let text = plan(setting, &initial.digest().to_string())?;
    fs::write(dir.join("plan.toml"), &text)?;
    let plan = Plan::parse(text.as_bytes())?;
    let home = Consortium::at(dir).coordinator();
    let (identity, _) = Home::new(&home).open(None)?;
    let mut journal = Journal::open_shared(&home)?;
    let blobs = Blobs::open_shared(blobs_path(&home))?;
    launch(
        &mut journal,
        &blobs,
        &identity,
        &run_id()?,
        &plan,
        &initial,
        now,
    )?;
    Ok(())
}

/// Serves until the run is finished, and prints a line whenever something moved.
pub(crate) fn serve(dir: &Path, listen: SocketAddr) -> anyhow::Result<()> {
    let home = Consortium::at(dir).coordinator();
    let authority = AuthorityHome::new(&home);
    let (identity, trust) = authority.home().open(None)?;
    let identity = Arc::new(identity);
    let membership = Arc::new(Membership::new(authority, trust.clone(), None));
    let clock = Clock::start();
    let coordinator = Coordinator::open(
        &home,
        Arc::clone(&identity),
        Options::default(),
        clock.now(),
    )?;
    let store = BlobStore::open(blobs_path(&home))?;
    let server = Server::new(coordinator, store, membership, clock, true);
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        let config = transport::Config::default();
        let listener = Listener::bind(listen, config, identity, trust).await?;
        let mut overview = server.overview();
        let told = tokio::spawn(async move {
            let mut last = String::new();
            loop {
                let line = overview
                    .borrow_and_update()
                    .run
                    .as_ref()
                    .map_or_else(String::new, line);
                if line != last {
                    println!("{line}");
                    last = line;
                }
                if overview.changed().await.is_err() {
                    return;
                }
            }
        });
        let served = server.run(listener, std::future::pending()).await;
        told.abort();
        served.map_err(anyhow::Error::from)
    })
}

/// Writes the run's model and its card; returns the model's digest.
pub(crate) fn export(dir: &Path) -> anyhow::Result<Digest> {
    let (home, run, out) = (
        Consortium::at(dir).coordinator(),
        run_id()?,
        dir.join(MODEL),
    );
    let checkpoint = export_model(&home, &run, None, Network::Evaluated, &out)?;
    let trust = Home::new(&home).trust()?;
    let card = model_card(&home, trust.consortium().id(), &run, None, &BTreeSet::new())?;
    fs::write(out.with_extension("card.md"), card)?;
    Ok(checkpoint.model)
}

/// What hospitals reported to the coordinator: probes on the federated model's features.
pub(crate) fn reported(dir: &Path) -> anyhow::Result<String> {
    let mut text = String::from(
        "\nreported to the coordinator: each hospital's own probe on the federated model's features,\n\
         trained and scored on its own patients; scores of different probes are not pooled\n\n",
    );
    for row in matrix(&Consortium::at(dir).coordinator(), &[run_id()?], None)? {
        for (task, areas) in &row.tasks {
            for together in areas.together.values() {
                writeln!(text, "{task:<10}  {together}")?;
            }
        }
    }
    Ok(text)
}

fn line(run: &coordinator::service::RunOverview) -> String {
    let done = run.history.len();
    let here = run.sites.values().filter(|site| site.connected).count();
    format!(
        "{}, round {} of {}: {done} done, {here} of {} hospitals connected",
        run.phase,
        run.round,
        run.rounds,
        run.sites.len()
    )
}

fn run_id() -> anyhow::Result<RunId> {
    Ok(RUN.parse()?)
}

fn plan(setting: &Setting, initial: &str) -> anyhow::Result<String> {
    let config = setting.config();
    let (objective, batch) = match setting.objective {
        Objective::Dino => ("dino", config.dino.global_batch),
        Objective::Mae => ("mae", config.mae.global_batch),
    };
    let preset = match setting.size {
        Size::Small => "small",
        Size::Tiny => "tiny",
    };
    let sites: Vec<&str> = setting.sites.iter().map(|site| site.as_str()).collect();
    let total = u64::from(setting.rounds) * u64::from(setting.steps);
    let mut text = String::new();
    writeln!(text, "name = \"{RUN}\"")?;
    writeln!(text, "objective = \"{objective}\"")?;
    writeln!(text, "model = \"vit\"")?;
    writeln!(text, "preset = \"{preset}\"")?;
    writeln!(text, "initial = \"{initial}\"")?;
    writeln!(text, "rounds = {}", setting.rounds)?;
    writeln!(text, "seed = {}", setting.seed)?;
    if setting.objective == Objective::Dino {
        writeln!(text, "statistics = [\"{CENTER}\"]")?;
    }
    writeln!(text, "\n[cohort]\nrule = \"full\"\nsites = {sites:?}")?;
    writeln!(
        text,
        "\n[local]\nsteps = {}\nbatch_size = {batch}",
        setting.steps
    )?;
    writeln!(text, "optimizer_state = \"keep\"")?;
    let goal = setting.objective.goal();
    text += &schedules(&config, goal, (total, batch), "server-ema");
    if !setting.tasks.is_empty() {
        let (every, tasks) = (setting.rounds, &setting.tasks);
        writeln!(text, "\n[evaluation]\nevery = {every}\ntasks = {tasks:?}")?;
    }
    Ok(text)
}

const RUN: &str = "demo";

/// Where the federated model goes, in the demo's folder.
pub(crate) const MODEL: &str = "federated.safetensors";
