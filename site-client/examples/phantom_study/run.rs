//! Doing the jobs: any number of processes on one folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use site_client::device::DeviceChoice;
use site_client::train::record::Stop;
use site_client::train::{Config, Plan, Preset};

use super::cohorts::{Cohorts, Scale};
use super::jobs::{Job, Part, Sweeps, Way, jobs};
use super::trials::Study;

/// What to do, and how large the study is.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Folder of the study.
    #[arg(long)]
    out: PathBuf,
    /// cpu, cuda or cuda:1; every process of a study uses one kind of device.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// No job starts after so many seconds; a pre-training that runs then is saved and ends.
    #[arg(long)]
    until: Option<u64>,
    /// Only some questions; all without it.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    #[command(flatten)]
    size: Size,
}

/// What makes two studies different.
#[derive(Clone, Serialize, clap::Args)]
struct Size {
    /// What the configuration starts from.
    #[arg(long, value_enum, default_value = "tiny")]
    preset: Preset,
    /// Seeds of pre-training, and of the weights of the models from scratch.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Draws of the labelled training scans.
    #[arg(long, default_value_t = 3)]
    subsets: u64,
    /// Steps of MAE.
    #[arg(long, default_value_t = 2500)]
    mae_steps: u64,
    /// Steps of DINO.
    #[arg(long, default_value_t = 1500)]
    dino_steps: u64,
    #[command(flatten)]
    scale: Scale,
    /// Settings over the preset, as `--set` of the commands.
    #[arg(long)]
    set: Vec<String>,
}

/// The study's own sweep: the paper's optimizer and the middle of its grid, with a rate above it
/// that a model of this size wants.
const SWEEP: [&str; 4] = [
    "sweep.learning_rates=[3e-3, 1e-3, 1e-4]",
    "sweep.weight_decays=[1e-2]",
    "sweep.epochs=[10, 30]",
    "sweep.optimizers=[\"adamw\"]",
];

/// How long a process waits before it looks for work again.
const PAUSE: Duration = Duration::from_millis(300);

impl Settings {
    fn parts(&self) -> &[Part] {
        const ALL: &[Part] = &[
            Part::Paper,
            Part::Tuned,
            Part::Probes,
            Part::InSite,
            Part::Shots,
            Part::Scaling,
            Part::Published,
        ];
        if self.part.is_empty() {
            ALL
        } else {
            &self.part
        }
    }

    /// The checked plan; a folder that holds another study is refused.
    fn plan(&self) -> anyhow::Result<Plan> {
        let size = &self.size;
        let mut all = vec![
            format!("mae.length={{ steps = {} }}", size.mae_steps),
            format!("dino.length={{ steps = {} }}", size.dino_steps),
            "pretrain.log_every=100".to_owned(),
            "pretrain.checkpoint_every=500".to_owned(),
            // Scans are read from a file that the system keeps in memory.
            "data.memory_mib=0".to_owned(),
        ];
        all.extend(SWEEP.map(str::to_owned));
        all.extend_from_slice(&size.set);
        let plan = Plan::new(Config::resolve(size.preset, None, &all)?)?;
        fs::create_dir_all(self.out.join("locks"))?;
        fs::create_dir_all(self.out.join("trials"))?;
        let text = format!("{}\n{}", toml::to_string(size)?, plan.config().to_toml()?);
        let path = self.out.join("study.toml");
        let _lock = lock(&self.out, "study")?.lock_waiting()?;
        match fs::read_to_string(&path) {
            Ok(found) => anyhow::ensure!(
                found == text,
                "{}: holds a study of other settings",
                path.display()
            ),
            Err(_) => fs::write(&path, text)?,
        }
        Ok(plan)
    }
}

/// Draws the phantoms.
pub(crate) fn prepare(settings: &Settings) -> anyhow::Result<()> {
    let started = Instant::now();
    let plan = settings.plan()?;
    Cohorts::open(&settings.out.join("data"), &plan, &settings.size.scale)?;
    tracing::info!(seconds = started.elapsed().as_secs_f64(), "phantoms drawn");
    Ok(())
}

/// Does jobs until none is left or the time is over.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    if let Some(seconds) = settings.until {
        let stop = stop.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            stop.request();
        });
    }
    let plan = settings.plan()?;
    let device = settings.device.parse::<DeviceChoice>()?.open()?;
    let cohorts = Cohorts::open(&settings.out.join("data"), &plan, &settings.size.scale)?;
    let size = &settings.size;
    let study = Study {
        out: &settings.out,
        sweeps: Sweeps::new(&plan)?,
        plan,
        cohorts,
        device,
        stop: stop.clone(),
    };
    let jobs = jobs(settings.parts(), size.seeds, size.subsets, &study.sweeps);
    let (mut left, mut failed) = (jobs.clone(), 0);
    while !stop.requested() {
        left.retain(|job| !study.done(job));
        match next(&study, &left)? {
            Next::Job(job, _lock) => {
                let started = Instant::now();
                let outcome = study.do_job(&job);
                let seconds = started.elapsed().as_secs_f64();
                match outcome {
                    Ok(validation) => tracing::info!(%job, validation, seconds, "job"),
                    Err(error) => {
                        tracing::error!(%job, seconds, "{error:#}");
                        left.retain(|kept| *kept != job);
                        failed += 1;
                    }
                }
            }
            Next::Others => thread::sleep(PAUSE),
            Next::Nothing => break,
        }
    }
    let done = jobs.iter().filter(|job| study.done(job)).count();
    tracing::info!(done, of = jobs.len(), failed, "end");
    anyhow::ensure!(failed == 0, "{failed} jobs failed");
    Ok(())
}

/// What a process does next.
enum Next {
    /// This job, held until the lock is dropped.
    Job(Job, Lock),
    /// Wait: other processes do what is left, or what it needs.
    Others,
    /// End: nothing is left that could be done.
    Nothing,
}

/// The first job that can be done and that nobody holds.
fn next(study: &Study<'_>, left: &[Job]) -> anyhow::Result<Next> {
    let mut held = false;
    for job in left {
        if !needs(job, &study.sweeps)
            .iter()
            .all(|needed| study.done(needed))
        {
            continue;
        }
        match lock(study.out, &job.to_string())?.lock_if_free()? {
            // Another process may have done it since.
            Some(lock) if !study.done(job) => return Ok(Next::Job(*job, lock)),
            Some(_) => {}
            None => held = true,
        }
    }
    Ok(if held { Next::Others } else { Next::Nothing })
}

/// The jobs that come before a job.
fn needs(job: &Job, sweeps: &Sweeps) -> Vec<Job> {
    let Job::Trial(start, way, subset) = job else {
        return Vec::new();
    };
    let mut needed = Vec::new();
    if start.pretrained.is_some() {
        needed.push(Job::Pretrain(*start));
    }
    if let Way::Tuned(sweep) = way {
        needed.extend(sweeps.trials(*sweep, *start, *subset));
    }
    needed
}

/// A name that one process at a time holds; the system frees it when the process ends.
struct Lock(File);

fn lock(out: &Path, name: &str) -> anyhow::Result<Lock> {
    Ok(Lock(File::create(out.join("locks").join(name))?))
}

impl Lock {
    fn lock_if_free(self) -> anyhow::Result<Option<Self>> {
        match self.0.try_lock() {
            Ok(()) => Ok(Some(self)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn lock_waiting(self) -> anyhow::Result<Self> {
        self.0.lock()?;
        Ok(self)
    }
}
