use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, bail, ensure};
use core_model::ct::{Order, Preprocessing, Preset, Volume};
use indicatif::{ProgressBar, ProgressStyle};
use safetensors::tensor::{Dtype, TensorView};
use site_client::ingest::nifti;
use site_client::ingest::preprocess::{Outcome, Shard, fill};
use site_client::ingest::{Cache, qc};
use site_client::scans;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A NIfTI scan, or the folder of a cohort (it holds scans.csv).
    scan: PathBuf,
    /// Geometry: `repo` (released code; for released weights) or `paper`.
    #[arg(long, default_value_t = Preset::Repo)]
    preset: Preset,
    /// `training` (windows, then resize) or `notebook` (resize, then windows).
    #[arg(long, default_value_t = Order::WindowThenResize)]
    order: Order,
    /// Voxels along each side of the model input.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u16).range(1..=512))]
    size: u16,
    /// Refuse scans with more voxels than this.
    #[arg(long, default_value_t = Preprocessing::MAX_VOXELS)]
    max_voxels: usize,
    /// One file: where to write the tensor `volume` [3, S, S, S].
    #[arg(long)]
    out: Option<PathBuf>,
    /// One file: also write the stages `ras`, `spacing_1mm` and `foreground`.
    #[arg(long, requires = "out")]
    steps: bool,
    /// Cohort: take every N-th scan from the I-th, as I/N, for array jobs.
    #[arg(long, default_value = "0/1")]
    shard: Shard,
    /// Cohort: scans worked on at once (default: one per core).
    #[arg(long)]
    workers: Option<usize>,
    /// Cohort: write a picture per scan and contact sheets to this folder.
    #[arg(long)]
    qc: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let chain = Preprocessing {
        preset: args.preset,
        order: args.order,
        size: args.size.into(),
        max_voxels: args.max_voxels,
    };
    if args.scan.is_dir() {
        ensure!(
            args.out.is_none(),
            "--out: is for one file; a cohort is cached in its folder"
        );
        cohort(&args, chain)
    } else {
        let Some(out) = &args.out else {
            bail!("--out: missing, expected a .safetensors file")
        };
        one_file(&args.scan, out, &chain, args.steps)
    }
}

fn one_file(scan: &Path, out: &Path, chain: &Preprocessing, steps: bool) -> anyhow::Result<()> {
    let volume = nifti::read_ras(scan, chain.max_voxels)?;
    let refused = || format!("{}: cannot be preprocessed", scan.display());
    let mut tensors = Vec::new();
    let mut add = |name: &'static str, shape: Vec<usize>, values: Vec<f32>| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((name, shape, bytes));
    };
    let input = if steps {
        let steps = chain.run_with_steps(volume).with_context(refused)?;
        let stages = [
            ("ras", steps.ras),
            ("spacing_1mm", steps.at_1mm),
            ("foreground", steps.cropped),
        ];
        for (name, stage) in stages {
            add(name, stage.shape().to_vec(), Volume::into_voxels_hu(stage));
        }
        steps.input
    } else {
        chain.run(volume).with_context(refused)?
    };
    add(
        "volume",
        vec![3, input.size, input.size, input.size],
        input.values,
    );
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (*name, view.expect("the values fill the shape"))
    });
    let metadata = HashMap::from([
        ("preset".to_owned(), chain.preset.to_string()),
        ("order".to_owned(), chain.order.to_string()),
    ]);
    safetensors::serialize_to_file(views, Some(metadata), out)
        .with_context(|| format!("{}: cannot write", out.display()))
}

fn cohort(args: &Args, chain: Preprocessing) -> anyhow::Result<()> {
    let scans = scans::read(&args.scan.join(scans::FILE_NAME))?;
    let chosen = args.shard.select(&scans);
    let cache = Cache::new(&args.scan, chain);
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.unwrap_or_else(cores);
    if let Some(folder) = &args.qc {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot create", folder.display()))?;
    }
    let progress = ProgressBar::new(chosen.len() as u64);
    let style = "{bar:40} {pos}/{len} scans  {per_sec}  {eta} left";
    progress.set_style(ProgressStyle::with_template(style).context("the bar's template")?);
    let (mut stored, mut present, mut failed) = (0_usize, 0_usize, 0_usize);
    let mut sheet = Vec::new();
    let mut sheets = 0_usize;
    let mut pictures: anyhow::Result<()> = Ok(());
    fill(
        &args.scan,
        &cache,
        &chosen,
        workers,
        args.qc.is_some(),
        |scan, outcome, portrait| {
            match outcome {
                Outcome::Stored => stored += 1,
                Outcome::Present => present += 1,
                Outcome::Failed(error) => {
                    failed += 1;
                    let chain = anyhow::Chain::new(error).map(ToString::to_string);
                    let message = chain.collect::<Vec<_>>().join(": ");
                    progress.suspend(|| eprintln!("scan {}: {message}", scan.scan));
                }
            }
            progress.inc(1);
            if let (Some(folder), Some(portrait)) = (&args.qc, portrait) {
                let saved = portrait.save(&folder.join(format!("{}.png", scan.scan)));
                sheet.push(portrait);
                let saved = saved.and_then(|()| {
                    if sheet.len() < qc::PER_SHEET {
                        return Ok(());
                    }
                    sheets += 1;
                    qc::save_contact_sheet(
                        &sheet_path(folder, args.shard, sheets),
                        &std::mem::take(&mut sheet),
                    )
                });
                if pictures.is_ok() {
                    pictures = saved.map_err(Into::into);
                }
            }
        },
    )?;
    pictures?;
    if let Some(folder) = args.qc.as_ref().filter(|_| !sheet.is_empty()) {
        qc::save_contact_sheet(&sheet_path(folder, args.shard, sheets + 1), &sheet)?;
    }
    progress.finish_and_clear();
    println!("{stored} scans preprocessed, {present} already there, {failed} failed");
    ensure!(
        failed == 0,
        "{failed} of {} scans failed; the others are in the cache",
        chosen.len()
    );
    Ok(())
}

fn sheet_path(folder: &Path, shard: Shard, sheet: usize) -> PathBuf {
    folder.join(format!(
        "sheet-{}of{}-{sheet:03}.png",
        shard.index, shard.of
    ))
}
