//! The demo from its first line to its last.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use protocol::SiteId;
use site_client::clock;
use site_client::federation::Policy;
use site_client::report::{self, Run};

use crate::Options;
use crate::consortium::Consortium;
use crate::process::{Process, threads_each};
use crate::setting::{Objective, Setting, Size};
use crate::study::Arm;
use crate::{egress, federation, supervise, table};

/// Runs the demo and prints what it shows.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut demo = Demo::set_up(options)?;
    demo.federate(options.kill_one)?;
    if options.model_only {
        return Ok(());
    }
    demo.study()?;
    demo.conclude(options.open)
}

/// One way to a classifier, at one hospital.
struct Job<'a> {
    arm: Arm,
    home: &'a SiteId,
}

struct Demo {
    dir: PathBuf,
    setting: Setting,
    consortium: Consortium,
    started: Instant,
    /// Bytes that each hospital sent in the federated run, as they crossed the wire.
    wire: BTreeMap<SiteId, u64>,
}

impl Demo {
    fn set_up(options: &Options) -> anyhow::Result<Self> {
        let started = Instant::now();
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("fmct-demo-{}", std::process::id())),
        };
        if dir.join("coordinator").exists() {
            bail!(
                "{}: holds a consortium already; give another --dir",
                dir.display()
            );
        }
        ensure!(options.rounds > 0, "--rounds 0: expected at least 1");
        fs::create_dir_all(dir.join("logs"))
            .with_context(|| format!("{}: cannot be made", dir.display()))?;
        let steps = options.steps.unwrap_or(match options.size {
            Size::Small => 10,
            Size::Tiny => 30,
        });
        ensure!(steps > 0, "--steps 0: expected at least 1");
        let sites = match &options.data {
            Some(data) => Setting::prepared(data, options.sites)?,
            None => Setting::hospitals(options.sites.unwrap_or(HOSPITALS))?,
        };
        let mut setting = Setting {
            objective: options.objective,
            rounds: options.rounds,
            steps,
            seed: options.seed,
            sites,
            size: options.size,
            data: options.data.clone(),
            batch: options.batch,
            epochs: options.epochs,
            tasks: Vec::new(),
        };
        setting.tasks = setting.shared_tasks()?;
        ensure!(
            options.model_only || !setting.tasks.is_empty(),
            "no disease has diseased and healthy patients in every part of every hospital"
        );
        setting.write(&dir)?;
        match &setting.data {
            Some(_) => {
                println!("Federated FM-CT demo on prepared cohorts. Not for clinical use.\n")
            }
            None => {
                println!("Federated FM-CT demo. Phantoms, not patients; not for clinical use.\n")
            }
        }
        let now = clock::now();
        let consortium = Consortium::found(&dir, &setting.sites, now)?;
        let policy = toml::to_string(&policy(&setting))?;
        for site in &setting.sites {
            fs::write(consortium.site(site).join("policy.toml"), &policy)?;
        }
        let demo = Self {
            dir,
            setting,
            consortium,
            started,
            wire: BTreeMap::new(),
        };
        let hospitals = demo.setting.sites.len();
        demo.say(&format!(
            "consortium founded, {hospitals} hospitals enrolled and approved"
        ));
        federation::launch_run(&demo.dir, &demo.setting, now)?;
        demo.say("plan signed, run launched");
        Ok(demo)
    }

    /// Federated pre-training: coordinator and hospitals, each a process.
    fn federate(&mut self, kill_one: bool) -> anyhow::Result<()> {
        let started = self.started;
        let say = |line: &str| say(started, line);
        self.wire = supervise::run(&self.dir, &self.setting.sites, kill_one, &say)?;
        let model = federation::export(&self.dir)?;
        say(&format!("run finished, model {model} exported"));
        Ok(())
    }

    /// Fine-tuning at every hospital, two processes at a time, the longest first.
    fn study(&self) -> anyhow::Result<()> {
        let internal = self.setting.internal();
        let mut jobs: VecDeque<Job<'_>> = [Arm::Tuned, Arm::Single, Arm::Scratch]
            .map(|arm| Job {
                arm,
                home: internal,
            })
            .into();
        let sites = &self.setting.sites;
        jobs.extend(sites.iter().map(|home| Job {
            arm: Arm::Federated,
            home,
        }));
        let jobs = Mutex::new(jobs);
        let take = || jobs.lock().expect("no worker panics").pop_front();
        let work = || {
            while let Some(job) = take() {
                if let Err(error) = self.fine_tune(job) {
                    jobs.lock().expect("no worker panics").clear();
                    return Err(error);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers = [0; STUDIES].map(|_| scope.spawn(work));
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker never panics"))
        })?;
        self.say("classifiers fine-tuned and scored at every hospital");
        Ok(())
    }

    fn fine_tune(&self, Job { arm, home }: Job<'_>) -> anyhow::Result<()> {
        let dir = self.dir.display().to_string();
        if arm == Arm::Single {
            self.process("alone", &["alone", &dir])?.finish()?;
            self.say(&format!("{home} pre-trained alone, for comparison"));
        }
        let name = format!("study-{}-{home}", arm.name());
        let arguments = ["study", &dir, home.as_str(), arm.name()];
        self.process(&name, &arguments)?.finish()
    }

    fn conclude(&self, open: bool) -> anyhow::Result<()> {
        let internal = self.setting.internal();
        let (mut arms, mut homes, mut runs) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for site in &self.setting.sites {
            for arm in Arm::at(&self.setting, site) {
                let run = Run::read(&arm.folder(&self.dir, site))?;
                if site == internal {
                    arms.insert(arm, run.predictions.clone());
                }
                if arm == Arm::Federated {
                    homes.insert(site.clone(), run.predictions.clone());
                }
                runs.push(run);
            }
        }
        print!("{}", table::comparison(&arms, internal)?);
        print!("{}", table::matrix(&homes, &self.setting.sites)?);
        print!("{}", federation::reported(&self.dir)?);
        println!("\n{}", self.protocol());
        print!(
            "{}",
            egress::summary(&self.consortium, &self.setting.sites, &self.wire)?
        );
        let report = self.dir.join("report");
        // The report tests every model against that of its first run.
        runs.sort_by_key(|run| {
            run.info.name != format!("{} at {internal}", Arm::Federated.label())
        });
        let written = report::write(runs, &report, &table::settings())?;
        println!("\nreport: {}", written.page.display());
        println!("seconds: {:.0}", self.started.elapsed().as_secs_f64());
        if open {
            Command::new("xdg-open").arg(&written.page).spawn()?;
        }
        Ok(())
    }

    /// What the tables are of, in a few lines.
    fn protocol(&self) -> String {
        let Setting {
            rounds,
            steps,
            seed,
            ..
        } = self.setting;
        let finetune = self.setting.config().finetune;
        let objective = match self.setting.objective {
            Objective::Dino => "DINO",
            Objective::Mae => "MAE",
        };
        format!(
            "One seed ({seed}); 95 % intervals by patient bootstrap (100). {objective}, {rounds} rounds × \
             {steps} steps\nat each hospital (single-site: as many steps, there alone). Fine-tuning: {} \
             epochs of {} draws,\nbackbone {:.0e}, head {:.0e}; tuned scratch: best of 3 rates by \
             validation AUC, twice the epochs.\nWhat it shows is what it shows: one small study.",
            finetune.epochs, finetune.draws, finetune.backbone_lr, finetune.head_lr
        )
    }

    fn process(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let log = self.consortium.log(name);
        Process::start(name, &arguments, &log, threads_each(STUDIES))
    }

    fn say(&self, line: &str) {
        say(self.started, line);
    }
}

fn say(started: Instant, line: &str) {
    println!("{:>6.1} s  {line}", started.elapsed().as_secs_f64());
}

/// The demo's hospitals allow this one objective, with two hospitals or more, and rounds as short as
/// somebody wants to see: all of them are this machine.
fn policy(setting: &Setting) -> Policy {
    let objective = match setting.objective {
        Objective::Dino => protocol::plan::Objective::Dino,
        Objective::Mae => protocol::plan::Objective::Mae,
    };
    Policy {
        objectives: vec![objective],
        min_sites: 2,
        min_examples: 1,
        ..Policy::default()
    }
}

/// Classifiers fine-tuned side by side.
const STUDIES: usize = 2;

/// Phantom hospitals, unless told otherwise.
const HOSPITALS: usize = 4;
