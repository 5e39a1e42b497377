//! Whole rounds without training, with real processes on loopback: the coordinator sends the model,
//! each site sends a changed copy's difference back, the coordinator folds; all durable on disk.
//!
//! `cargo bench --profile release -p fmct-tests --bench rounds -- SITES MEGABYTES ROUNDS [STRATEGY
//! [TRANSPORT]]` prints one JSON line like the peers' harness does. The first round is warm-up.
//! STRATEGY and TRANSPORT are as in a plan and in a file of transport settings.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use protocol::Params;
use serde_json::{Value, json};

#[path = "../network.rs"]
#[expect(dead_code, reason = "the kill test uses the rest")]
mod network;

use network::{Network, Process, Setting};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let [sites, megabytes, rounds, more @ ..] = &arguments[..] else {
        bail!("usage: SITES MEGABYTES ROUNDS [STRATEGY [TRANSPORT]]");
    };
    let (sites, rounds): (usize, u32) = (sites.parse()?, rounds.parse()?);
    let megabytes: u64 = megabytes.parse()?;
    let strategy = more.first().map_or("name = \"fedavg\"", String::as_str);
    let transport = more.get(1).cloned().unwrap_or_default();
    let network = Network::found(&Setting {
        transport: transport.clone(),
        ..setting(sites, megabytes, rounds, strategy)?
    });
    let mut coordinator = network.serve(&["--keep-rounds", "1"]);
    let processes = network.start_sites();
    let mut samples = Vec::new();
    let started = Instant::now();
    while coordinator.ended().is_none() {
        samples.push(Sample::take(&coordinator, &processes));
        thread::sleep(EVERY);
        if started.elapsed() > TOO_LONG {
            bail!("no end after {TOO_LONG:?}");
        }
    }
    drop(processes);
    report(
        &network,
        &samples,
        &json!({
            "peer": "fmct", "clients": sites, "megabytes": megabytes,
            "strategy": strategy, "transport": transport,
        }),
    )
}

/// What the processes use at a time.
struct Sample {
    at_ms: u64,
    /// Processor time of all, and of the coordinator, in seconds.
    cpu_s: [f64; 2],
    /// Peak so far, and now, of the coordinator; peak of the largest site.
    memory_kib: [u64; 3],
    /// The coordinator's open files.
    descriptors: usize,
}

impl Sample {
    fn take(coordinator: &Process, sites: &[Process]) -> Self {
        let own = cpu_seconds(coordinator.id());
        let others: f64 = sites.iter().map(|site| cpu_seconds(site.id())).sum();
        let largest = sites.iter().map(|site| memory_kib(site.id(), "VmHWM:"));
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let descriptors = fs::read_dir(format!("/proc/{}/fd", coordinator.id()));
        Self {
            at_ms: since.map_or(0, |since| since.as_millis() as u64),
            cpu_s: [own + others, own],
            memory_kib: [
                memory_kib(coordinator.id(), "VmHWM:"),
                memory_kib(coordinator.id(), "VmRSS:"),
                largest.max().unwrap_or_default(),
            ],
            descriptors: descriptors.map_or(0, Iterator::count),
        }
    }
}

/// Prints one line: what was measured, and what came of it.
fn report(network: &Network, samples: &[Sample], of: &Value) -> anyhow::Result<()> {
    let ends = round_ends(network)?;
    let seconds: Vec<f64> = ends
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / 1e3)
        .collect();
    let near = |at: u64| {
        samples
            .iter()
            .min_by_key(|sample| sample.at_ms.abs_diff(at))
    };
    let (first, last) = (ends.first().copied(), ends.last().copied());
    let (first, last) = first.zip(last).context("no round ended")?;
    let (begin, end) = near(first).zip(near(last)).context("no sample")?;
    let rounds = seconds.len() as f64;
    let [all, own] = [0, 1].map(|of| (end.cpu_s[of] - begin.cpu_s[of]) / rounds);
    let peak = |of: usize| samples.iter().map(|sample| sample.memory_kib[of]).max();
    // Whether memory and descriptors grow, from the second tenth of the rounds to the last.
    let at_round = |share: f64| near(ends[((ends.len() - 1) as f64 * share) as usize]);
    let course: Vec<Value> = [0.1, 0.25, 0.5, 0.75, 1.0]
        .into_iter()
        .filter_map(at_round)
        .map(|sample| json!([sample.memory_kib[1] / 1024, sample.descriptors]))
        .collect();
    let mut ordered = seconds.clone();
    ordered.sort_by(f64::total_cmp);
    let sites = of["clients"].as_f64().context("no sites")?;
    println!(
        "{}",
        json!({
            "of": of,
            "round_s": ordered.get(ordered.len() / 2),
            "rounds": if seconds.len() > 10 { json!(seconds.len()) } else { json!(seconds) },
            "server_peak_mib": peak(0).unwrap_or_default() / 1024,
            "client_peak_mib": peak(2).unwrap_or_default() / 1024,
            "cpu_s": round(all), "server_cpu_s": round(own),
            "client_cpu_s_each": round((all - own) / sites),
            "server_mib_and_descriptors": course,
        })
    );
    Ok(())
}

/// When each round's record was signed, by the coordinator's clock.
fn round_ends(network: &Network) -> anyhow::Result<Vec<u64>> {
    let database = network.database();
    let mut statement = database.prepare(
        "SELECT at FROM events WHERE body LIKE '%\"event\":\"published\"%' ORDER BY seq",
    )?;
    let ends = statement.query_map([], |row| row.get::<_, i64>(0))?;
    Ok(ends
        .map(|at| at.map(i64::cast_unsigned))
        .collect::<Result<_, _>>()?)
}

fn setting(sites: usize, megabytes: u64, rounds: u32, strategy: &str) -> anyhow::Result<Setting> {
    let elements = megabytes * 250_000 / TENSORS;
    let tensors: BTreeMap<String, Vec<f32>> = (0..TENSORS)
        .map(|tensor| {
            let values = (0..elements).map(|place| (place % 1021) as f32 / 1021.0 - 0.5);
            (format!("tensor.{tensor:02}"), values.collect())
        })
        .collect();
    let tensors = tensors
        .into_iter()
        .map(|(name, values)| (name, vec![elements], values));
    Ok(Setting {
        sites: (0..sites).map(|site| format!("site-{site}")).collect(),
        first: Params::from_tensors(tensors)?,
        plan: format!(
            "name = \"bench\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             rounds = {rounds}\nlocal = {{ steps = 1, batch_size = 1 }}\n\
             schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n\
             strategy = {{ {strategy} }}\n"
        ),
        transport: String::new(),
    })
}

fn memory_kib(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

const TENSORS: u64 = 8;
const EVERY: Duration = Duration::from_millis(50);
const TOO_LONG: Duration = Duration::from_secs(1800);
/// `getconf CLK_TCK` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
