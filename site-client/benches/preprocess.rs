//! Preprocessing of one scan, preset `repo`, as `fmct-site preprocess` does it, beside MONAI's on the
//! same file.
//!
//! `cargo bench -p site-client --bench preprocess -- [PYTHON]` writes two phantom scans, 512×512×160
//! at 0.45×0.45×1 mm and 512×512×32 at 5 mm, and prints for each the median seconds of seven runs,
//! where they go, and the peak memory of a process that does nothing else. With a Python that has
//! monai and nibabel it runs `../shared/peers/monai_preprocess.py` in between.

use std::fs;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use core_model::ct::{Preprocessing, Preset, Volume, to_ras};
use core_model::phantom::{Grid, Patient, Site};
use flate2::read::MultiGzDecoder;
use site_client::ingest::nifti;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match (args.next(), args.next()) {
        (Some(flag), Some(scan)) if flag == MEASURE => measure(scan.as_ref()),
        (python, _) => compare(python.as_deref()),
    }
}

/// Runs every measurement in a process of its own, so that peaks are its own too.
fn compare(python: Option<&str>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/peers/monai_preprocess.py");
    for (slices, thickness_mm) in [(160, 1.0), (32, 5.0)] {
        let scan = folder.path().join(format!("{slices}.nii.gz"));
        write_phantom(&scan, slices, thickness_mm)?;
        let mib = fs::metadata(&scan)?.len() as f64 / f64::from(1 << 20);
        println!("512x512x{slices} at 0.45x0.45x{thickness_mm} mm, {mib:.1} MiB");
        let mut ours = Command::new(std::env::current_exe()?);
        run(ours.arg(MEASURE).arg(&scan))?;
        if let Some(python) = python {
            run(Command::new(python).arg(&peer).arg(&scan))?;
            run(&mut ours)?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot be started")?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

fn write_phantom(path: &Path, slices: usize, thickness_mm: f32) -> anyhow::Result<()> {
    let site = Site::builtin("langone").context("a built-in site")?;
    let patient = Patient::draw(&site, 7, 0);
    let scan = patient.acquisition(&site, 0);
    let steps = [[0.45, 0.0, 0.0], [0.0, 0.45, 0.0], [0.0, 0.0, thickness_mm]];
    let grid = Grid::new([512, 512, slices], [-115.0, -115.0, -78.0], steps);
    let volume = patient.volume(&scan, &grid);
    // Scanners store whole HU.
    let whole = volume.voxels_hu().iter().map(|hu| hu.round()).collect();
    let volume = Volume::new(volume.shape(), *volume.affine(), whole)?;
    nifti::write_volume(path, &volume)?;
    Ok(())
}

/// Times each stage; the median of a stage and of the whole are taken apart.
fn measure(path: &Path) -> anyhow::Result<()> {
    const RUNS: usize = 7;
    let chain = Preprocessing::new(Preset::Repo);
    let mut seconds = vec![Vec::new(); STAGES.len()];
    for run in 0..=RUNS {
        let mut laps = Laps::start();
        let ras = nifti::read_ras(path, chain.max_voxels)?;
        laps.lap();
        let at_1mm = chain.at_1mm(to_ras(ras))?;
        laps.lap();
        let cropped = chain.cropped(&at_1mm)?;
        drop(at_1mm);
        laps.lap();
        black_box(chain.model_input(&cropped));
        laps.lap();
        // The first run warms caches and memory up.
        if run > 0 {
            let whole = laps.0.iter().sum();
            let stages = laps.0.into_iter().chain([whole]);
            seconds
                .iter_mut()
                .zip(stages)
                .for_each(|(all, s)| all.push(s));
        }
    }
    let peak = peak_bytes() as f64 / f64::from(1 << 30);
    let mut inflating = Vec::new();
    let mut inflated = Vec::new();
    for _ in 0..RUNS {
        let clock = Instant::now();
        let bytes = fs::read(path)?;
        inflated.clear();
        MultiGzDecoder::new(&*bytes).read_to_end(&mut inflated)?;
        inflating.push(clock.elapsed().as_secs_f64());
    }
    let parts = STAGES.iter().zip(&mut seconds);
    let parts: Vec<String> = parts
        .map(|(name, all)| format!("{name} {:.3}", median(all)))
        .collect();
    println!("ours: {} s  peak {peak:.2} GiB", parts.join("  "));
    println!("ours: gzip inflate alone {:.3} s", median(&mut inflating));
    Ok(())
}

struct Laps(Vec<f64>, Instant);

impl Laps {
    fn start() -> Self {
        Self(Vec::new(), Instant::now())
    }

    fn lap(&mut self) {
        self.0.push(self.1.elapsed().as_secs_f64());
        self.1 = Instant::now();
    }
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Greatest resident memory of this process so far; 0 where the system does not tell.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

const MEASURE: &str = "--measure";

const STAGES: [&str; 5] = ["read to RAS", "1 mm", "crop", "windows", "whole"];
