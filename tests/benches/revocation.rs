//! How long a revoked site stays connected: real processes on loopback, every site revoked at a
//! random moment between two looks of the coordinator.
//!
//! `cargo bench --profile release -p fmct-tests --bench revocation -- SITES` prints one JSON line:
//! seconds from the start of `fmct-coordinator revoke` to the journal's "left", in order of size.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use assert_cmd::cargo::cargo_bin;
use protocol::Params;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

#[path = "../network.rs"]
#[expect(dead_code, reason = "the kill test uses the rest")]
mod network;

use network::{Network, Setting};

fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args()
        .skip(1)
        .find(|one| one != "--bench")
        .context("usage: SITES")?
        .parse()?;
    let network = Network::found(&setting(count)?);
    let _coordinator = network.serve(&[]);
    let sites: Vec<String> = (0..count).map(name).collect();
    let _processes: Vec<_> = sites.iter().map(|site| network.start_site(site)).collect();
    for site in &sites {
        until(&network, "joined", site)?;
    }
    let mut moments = ChaCha8Rng::seed_from_u64(1);
    let mut seconds = Vec::new();
    for site in &sites {
        thread::sleep(HEARTBEAT.mul_f64(moments.random()));
        let revoked = Instant::now();
        let mut command = Command::new(cargo_bin("fmct-coordinator"));
        command.args(["revoke", site, "--dir"]);
        let done = command.arg(network.coordinator()).output()?;
        ensure!(done.status.success(), "revoke {site}: {done:?}");
        until(&network, "left", site)?;
        seconds.push((revoked.elapsed().as_secs_f64() * 100.0).round() / 100.0);
    }
    seconds.sort_by(f64::total_cmp);
    let (heartbeat, median) = (HEARTBEAT.as_secs(), seconds[count / 2]);
    println!(
        "{}",
        json!({ "heartbeat_s": heartbeat, "median_s": median, "seconds": seconds })
    );
    Ok(())
}

/// Waits for an event about a site.
fn until(network: &Network, event: &str, site: &str) -> anyhow::Result<()> {
    let database = network.database();
    let query = "SELECT count(*) FROM events WHERE body LIKE ?1 AND body LIKE ?2";
    let (event, about) = (
        format!("%\"event\":\"{event}\"%"),
        format!("%\"site\":\"{site}\"%"),
    );
    let started = Instant::now();
    while database.query_row(query, [&event, &about], |row| row.get::<_, i64>(0))? == 0 {
        ensure!(started.elapsed() < TOO_LONG, "{site}: no event {event}");
        thread::sleep(EVERY);
    }
    Ok(())
}

/// A run that waits for one site more than there are, so that all stay connected.
fn setting(count: usize) -> anyhow::Result<Setting> {
    Ok(Setting {
        sites: (0..=count).map(name).collect(),
        first: Params::from_tensors([("weight".to_owned(), vec![4], vec![1.0; 4])])?,
        plan: "name = \"bench\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
               rounds = 1\nlocal = { steps = 1, batch_size = 1 }\n\
               schedule = { learning_rate = { peak = 0.1 } }\n\
               strategy = { name = \"fedavg\" }\n"
            .to_owned(),
        transport: format!("heartbeat_seconds = {}\n", HEARTBEAT.as_secs()),
    })
}

fn name(site: usize) -> String {
    format!("site-{site:02}")
}

/// The default.
const HEARTBEAT: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(20);
const TOO_LONG: Duration = Duration::from_secs(60);
