//! Which units there are, whose turn they are, and doing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use site_client::train::{Config, Plan, Preset};

use crate::arms::{Arm, pretrain};
use crate::judge::Judge;
use crate::record::Record;

/// How large the study is, and which part of it this process does.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Folder of the study.
    #[arg(long)]
    out: PathBuf,
    /// Repeats, each with patients, weights and draws of its own.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Steps of MAE.
    #[arg(long, default_value_t = 150)]
    mae_steps: u64,
    /// Steps of DINO.
    #[arg(long, default_value_t = 200)]
    dino_steps: u64,
    /// This process's share: `0/4` to `3/4` are the shares of four processes.
    #[arg(long, default_value = "0/1", value_parser = shard)]
    shard: (usize, usize),
    /// After so many seconds no unit is begun.
    #[arg(long)]
    until: Option<u64>,
    /// Only arms whose name starts with it.
    #[arg(long, default_value = "")]
    only: String,
    /// Settings over the preset `tiny`, as `--set` of the commands.
    #[arg(long)]
    set: Vec<String>,
}

/// Computes what is missing of this process's share.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    fs::create_dir_all(&settings.out)?;
    let started = Instant::now();
    let mut over = vec![
        format!("mae.length={{ steps = {} }}", settings.mae_steps),
        format!("dino.length={{ steps = {} }}", settings.dino_steps),
        "dino.global_batch=16".to_owned(),
        "dino.device_batch=16".to_owned(),
        // Over so few steps the preset's momentum would leave the teacher its random weights.
        "dino.momentum=0.97".to_owned(),
        "mae.global_batch=32".to_owned(),
        "mae.device_batch=32".to_owned(),
    ];
    over.extend_from_slice(&settings.set);
    let config = Config::resolve(Preset::Tiny, None, &over)?;
    keep_to(&settings.out, &config)?;
    let arms = Arm::all();
    let units = (0..settings.seeds).flat_map(|seed| arms.iter().map(move |arm| (seed, arm)));
    let (own, all) = settings.shard;
    for (index, (seed, arm)) in units.enumerate() {
        let path = settings.out.join(format!("{seed}-{}.json", arm.name));
        if index % all != own || !arm.name.starts_with(&settings.only) || path.exists() {
            continue;
        }
        if settings
            .until
            .is_some_and(|until| started.elapsed().as_secs() >= until)
        {
            break;
        }
        let plan = Plan::new(Config {
            seed,
            ..config.clone()
        })?;
        let folder = settings
            .out
            .join("work")
            .join(format!("{seed}-{}", arm.name));
        unit(&plan, seed, arm, &folder)?.write(&path)?;
        // What the rehearsal kept there is of no more use.
        fs::remove_dir_all(&folder).ok();
        println!(
            "{seed}-{}: done after {} s",
            arm.name,
            started.elapsed().as_secs()
        );
    }
    Ok(())
}

/// Notes the settings of a study beside its records; another study needs another folder.
fn keep_to(out: &Path, config: &Config) -> anyhow::Result<()> {
    let path = out.join("study.toml");
    let text = toml::to_string(config)?;
    match fs::read_to_string(&path) {
        Ok(kept) => ensure!(
            kept == text,
            "{}: other settings, expected those of this run",
            path.display()
        ),
        Err(_) => fs::write(&path, text)?,
    }
    Ok(())
}

fn unit(plan: &Plan, seed: u64, arm: &Arm, folder: &Path) -> anyhow::Result<Record> {
    let judge = Judge::new(plan, seed)?;
    let mut record = Record {
        seed,
        arm: arm.name.clone(),
        verdicts: Vec::new(),
        down: 0,
        up: 0,
        scans: 0,
        seconds: 0.0,
    };
    let Some((objective, way)) = arm.pretraining else {
        record.verdicts = judge.verdicts("", None)?;
        record
            .verdicts
            .push(judge.tuned(&record.verdicts[1], None)?);
        return Ok(record);
    };
    let done = pretrain(plan, seed, objective, way, folder)?;
    for (place, (network, backbone)) in done.backbones.iter().enumerate() {
        let verdicts = judge.verdicts(network, Some(backbone))?;
        // The first network is the one that is used.
        if place == 0 && arm.is_tuned() {
            let tuned = judge.tuned(&verdicts[1], Some(backbone))?;
            record.verdicts.push(tuned);
        }
        record.verdicts.extend(verdicts);
    }
    (record.down, record.up) = (done.down, done.up);
    (record.scans, record.seconds) = (done.scans, done.seconds);
    Ok(record)
}

fn shard(text: &str) -> anyhow::Result<(usize, usize)> {
    let (own, all) = text
        .split_once('/')
        .context("expected i/n, for instance 0/4")?;
    let (own, all) = (own.parse()?, all.parse()?);
    ensure!(own < all, "expected i below n");
    Ok((own, all))
}
