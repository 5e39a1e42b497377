//! Throughput of pre-training: scans per second, and the share of the time that the device waits
//! for data.
//!
//! ```text
//! cargo bench --profile release -p site-client --bench pretraining -- tiny mae 100
//! cargo bench --profile release -p site-client --bench pretraining -- paper mae 3 mae.device_batch=2 mae.global_batch=2
//! ```
//!
//! Preset, objective, steps, and settings over the preset. Scans are phantoms, drawn by the loader's
//! threads as they are asked for and kept as the preset says.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use core_model::phantom::Site;
use site_client::device::DeviceChoice;
use site_client::train::data::{Memory, Phantoms};
use site_client::train::pretrain::{Feed, Pretraining, Skipped};
use site_client::train::{Config, Objective, Plan, Preset};

/// Patients of the site.
const PATIENTS: u64 = 600;

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds a flag of its own.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [preset, objective, steps, settings @ ..] = &args[..] else {
        anyhow::bail!("expected PRESET OBJECTIVE STEPS [KEY=VALUE..], found {args:?}");
    };
    let preset = Preset::from_str(preset, true).map_err(anyhow::Error::msg)?;
    let objective = Objective::from_str(objective, true).map_err(anyhow::Error::msg)?;
    let steps: u64 = steps.parse().context("STEPS")?;
    let plan = Plan::new(Config::resolve(preset, None, settings)?)?;
    let config = plan.config();
    let site = Site::builtin("langone").expect("a built-in site");
    let phantoms = Phantoms::new(site, 1, PATIENTS, config.model.input, config.model.channels);
    let source = Arc::new(Memory::new(Arc::new(phantoms), config.data.memory_mib));
    let devices = config
        .device
        .parse::<DeviceChoice>()?
        .open_several(config.pretrain.devices)?;
    let mut training = Pretraining::new(&plan, objective, 1000, &devices[0])?;
    training.spread_over(&devices[1..])?;
    let feed = Arc::new(Feed::new(&plan, objective, source));
    let mut skipped = Skipped::default();
    let go_on = &mut |_: &_, _: &_, _: &_| ControlFlow::Continue(());
    // Memory is touched, kernels are compiled.
    training.train(&feed, 1, &mut skipped, go_on)?;
    let stretch = training.train(&feed, steps, &mut skipped, go_on)?;
    let (waited, elapsed) = (stretch.waited.as_secs_f64(), stretch.elapsed.as_secs_f64());
    println!(
        "{preset:?} {objective:?}: {} scans in {elapsed:.2} s, {:.2} scans/s, {:.3} s/step, waited {:.1} %",
        stretch.scans,
        stretch.scans as f64 / elapsed,
        elapsed / steps as f64,
        100.0 * waited / elapsed
    );
    Ok(())
}
