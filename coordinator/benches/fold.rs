//! Time and memory of one fold, for every strategy: staged updates on disk become the next model.
//!
//! `cargo bench --profile release -p coordinator --bench fold -- SITES MEGABYTES [dense] [STRATEGY]`
//!
//! Without `dense` the updates are sparse files (zeros), so that a hundred of them fit on a disk:
//! memory does not depend on what they hold. Each strategy runs in a process of its own, so that
//! its peak memory is its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use coordinator::aggregate::{Contribution, Inputs, aggregate, moments_bytes};
use protocol::layout::Layout;
use protocol::plan::Plan;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["child", strategy, sites, folder] => one(strategy, sites.parse()?, Path::new(folder)),
        [sites, megabytes, ref rest @ ..] => {
            let dense = rest.contains(&"dense");
            let only = rest.iter().find(|one| **one != "dense");
            all(sites.parse()?, megabytes.parse()?, dense, only.copied())
        }
        _ => bail!("usage: SITES MEGABYTES [dense] [STRATEGY]"),
    }
}

/// Makes the updates and folds them with every strategy, or one.
fn all(sites: usize, megabytes: u64, dense: bool, only: Option<&str>) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("fmct-fold-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let elements = megabytes * 250_000 / TENSORS * TENSORS;
    std::fs::write(folder.join("elements"), elements.to_string())?;
    for site in 0..sites {
        // SCAFFOLD's updates carry a control variate, as long as the weights.
        fill(&update(&folder, site), elements * 8, dense, site as u64)?;
    }
    fill(&folder.join("model"), elements * 8, dense, 1000)?;
    println!("strategy       sites     MB  seconds  CPU s  peak MiB");
    let program = std::env::current_exe()?;
    for (name, _) in STRATEGIES
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
    {
        let output = Command::new(&program)
            .args(["child", name, &sites.to_string()])
            .arg(&folder)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{name:<14} {sites:>5}  {megabytes:>5}  {}", text.trim_end());
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Folds once.
fn one(name: &str, sites: usize, folder: &Path) -> anyhow::Result<()> {
    let text = STRATEGIES.iter().find(|(known, _)| *known == name);
    let (_, strategy) = text.with_context(|| format!("{name}: not a strategy"))?;
    let elements: u64 = std::fs::read_to_string(folder.join("elements"))?.parse()?;
    let plan = Plan::parse(plan(strategy, sites).as_bytes())?;
    let names: Vec<String> = (0..TENSORS)
        .map(|tensor| format!("tensor.{tensor:02}"))
        .collect();
    let tensors = names.iter().map(|name| (name.as_str(), elements / TENSORS));
    let layout = Layout::new(tensors, plan.config());
    let updates: Vec<File> = (0..sites)
        .map(|site| File::open(update(folder, site)))
        .collect::<Result<_, _>>()?;
    let contributions: Vec<Contribution<'_>> = updates
        .iter()
        .map(|update| Contribution {
            update,
            examples: 100,
            steps: 10,
            norm: 1.0,
        })
        .collect();
    let base = File::open(folder.join("model"))?;
    let inputs = Inputs {
        config: plan.config(),
        layout: &layout,
        first_step: 0,
        model: &base,
        moments: None,
        contributions: &contributions,
    };
    let [model, moments] = ["next", "moments"].map(|name| File::create(folder.join(name)));
    let (model, moments) = (model?, moments?);
    let started = Instant::now();
    aggregate(&inputs, &mut &model, &mut &moments)?;
    model.sync_all()?;
    if moments_bytes(plan.config(), &layout) > 0 {
        moments.sync_all()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{seconds:>7.2}  {:>5.1}  {:>8.1}",
        cpu_seconds()?,
        peak_mib()?
    );
    Ok(())
}

fn update(folder: &Path, site: usize) -> PathBuf {
    folder.join(format!("update-{site:03}"))
}

/// Numbers around zero, or nothing but a length.
fn fill(path: &Path, bytes: u64, dense: bool, seed: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    file.set_len(bytes)?;
    if dense {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        for _ in 0..bytes / 4 {
            let value = f32::from_bits(rng.next_u32() & 0x007f_ffff | 0x3f80_0000) - 1.5;
            out.write_all(&(value * 1e-3).to_le_bytes())?;
        }
        out.flush()?;
        file.sync_all()?;
    }
    Ok(())
}

fn plan(strategy: &str, sites: usize) -> String {
    let sites: Vec<String> = (0..sites).map(|site| format!("site-{site:03}")).collect();
    format!(
        "name = \"fold\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
         initial = \"{}\"\nrounds = 1\n\
         local = {{ steps = 10, batch_size = 1 }}\n\
         schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n\
         cohort = {{ rule = \"full\", sites = {sites:?} }}\n\
         strategy = {{ {strategy} }}\n",
        "0".repeat(64)
    )
}

/// Most memory this process has held.
fn peak_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("/proc/self/status: no VmHWM")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// Processor time of this process, in user mode and in the kernel.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("/proc/self/stat: no name")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Every strategy, as a plan names it.
const STRATEGIES: [(&str, &str); 13] = [
    ("fedavg", "name = \"fedavg\""),
    ("fedprox", "name = \"fedprox\", mu = 0.1"),
    (
        "fedavgm",
        "name = \"fedavgm\", server_learning_rate = 1.0, momentum = 0.9",
    ),
    (
        "fedadam",
        "name = \"fedadam\", server_learning_rate = 0.1, beta1 = 0.9, beta2 = 0.99, tau = 1e-3",
    ),
    (
        "fedyogi",
        "name = \"fedyogi\", server_learning_rate = 0.1, beta1 = 0.9, beta2 = 0.99, tau = 1e-3",
    ),
    (
        "fedadagrad",
        "name = \"fedadagrad\", server_learning_rate = 0.1, beta1 = 0.9, tau = 1e-3",
    ),
    (
        "scaffold",
        "name = \"scaffold\", server_learning_rate = 1.0",
    ),
    ("fedema", "name = \"fedema\", tau = 0.7"),
    ("l-dawa", "name = \"l-dawa\""),
    ("median", "name = \"median\""),
    ("trimmed-mean", "name = \"trimmed-mean\", trim = 1"),
    ("krum", "name = \"krum\", malicious = 1"),
    (
        "multi-krum",
        "name = \"multi-krum\", malicious = 1, keep = 3",
    ),
];
const TENSORS: u64 = 12;
/// `getconf CLK_TCK` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
