//! The jobs of the study: what each is called, what it needs, in which order they are taken.

use std::fmt;

use clap::ValueEnum;
use site_client::train::downstream::grid;
use site_client::train::{Config, FinetuneConfig, Objective, Plan, Preset};

/// Tasks of the few-shot curves: a common collection of blood, and a change of the whole brain.
pub(crate) const SHOT_TASKS: [&str; 2] = ["SDH", "HCP"];
/// Scans per class of the few-shot curves, as in the paper.
pub(crate) const SHOTS: [usize; 6] = [8, 16, 32, 64, 128, 256];
/// Shares of the pool, %, as in the paper's scaling study.
pub(crate) const PERCENTS: [u64; 3] = [100, 30, 10];
/// Both objectives, the longer first.
pub(crate) const OBJECTIVES: [Objective; 2] = [Objective::Dino, Objective::Mae];

/// Where a model starts: random weights, or a pre-training of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// What was optimized, on which share of the pool, %; nothing for random weights.
    pub(crate) pretrained: Option<(Objective, u64)>,
    /// Seed of all that is random in it.
    pub(crate) seed: u64,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed;
        match self.pretrained {
            None => write!(f, "scratch-s{seed}"),
            Some((objective, percent)) => write!(f, "{}-{percent}-s{seed}", name(objective)),
        }
    }
}

/// Name of an objective in files and tables.
pub(crate) fn name(objective: Objective) -> &'static str {
    match objective {
        Objective::Dino => "dino",
        Objective::Mae => "mae",
    }
}

/// A search over settings of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// The study's: a few rates, for every start and subset anew.
    Own,
    /// The paper's, 144 combinations, for models from scratch (Methods): once, with the first seed
    /// and the first subset. What it chooses is trained with every seed and every subset.
    Published,
}

impl Sweep {
    /// What the names of its combinations begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Own => "sweep",
            Self::Published => "grid",
        }
    }

    /// The start and the subset that are swept for a start and a subset.
    fn swept(self, start: Start, subset: u64) -> (Start, u64) {
        match self {
            Self::Own => (start, subset),
            Self::Published => (Start { seed: 0, ..start }, 0),
        }
    }
}

/// The combinations of both sweeps.
pub(crate) struct Sweeps {
    own: Vec<FinetuneConfig>,
    published: Vec<FinetuneConfig>,
}

impl Sweeps {
    /// The sweep that the plan's configuration says, and the paper's, over its other settings.
    pub(crate) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let published = Plan::new(Config {
            sweep: Config::preset(Preset::Paper).sweep,
            ..plan.config().clone()
        })?;
        Ok(Self {
            own: grid(plan),
            published: grid(&published),
        })
    }

    /// The combinations of a sweep.
    pub(crate) fn of(&self, sweep: Sweep) -> &[FinetuneConfig] {
        match sweep {
            Sweep::Own => &self.own,
            Sweep::Published => &self.published,
        }
    }

    /// The trials that choose for a start and a subset of the labels.
    pub(crate) fn trials(&self, sweep: Sweep, start: Start, subset: u64) -> Vec<Job> {
        let (start, subset) = sweep.swept(start, subset);
        (0..self.of(sweep).len())
            .map(|index| Job::Trial(start, Way::Combination(sweep, index), subset))
            .collect()
    }
}

/// What is trained from a start with a subset of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The paper's protocol at this size: low backbone rate, head rate a hundred times that.
    Paper,
    /// One combination of a sweep, judged on validation alone.
    Combination(Sweep, usize),
    /// The best combination of a sweep by validation AUC.
    Tuned(Sweep),
    /// A linear probe of frozen features.
    Linear,
    /// An attentive probe of frozen features.
    Attentive,
    /// Trained and tested at an external site, by its place in the list: the reference that tells
    /// harder images from lost transfer.
    InSite(usize),
    /// One disease, `SHOTS[k]` scans of each class, full fine-tuning.
    Shots { task: usize, k: usize },
    /// The few-shot curves by SimpleShot on frozen features, all K.
    SimpleShot,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paper => f.write_str("paper"),
            Self::Combination(sweep, index) => write!(f, "{}{index:03}", sweep.prefix()),
            Self::Tuned(Sweep::Own) => f.write_str("tuned"),
            Self::Tuned(Sweep::Published) => f.write_str("published"),
            Self::Linear => f.write_str("linear"),
            Self::Attentive => f.write_str("attentive"),
            Self::InSite(place) => write!(f, "insite-{}", super::cohorts::EXTERNAL[*place]),
            Self::Shots { task, k } => write!(f, "shots-{}-{}", SHOT_TASKS[*task], SHOTS[*k]),
            Self::SimpleShot => f.write_str("simpleshot"),
        }
    }
}

/// A piece of work that one process does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Pre-trains a start.
    Pretrain(Start),
    /// Trains from a start with a subset of the labels.
    Trial(Start, Way, u64),
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pretrain(start) => start.fmt(f),
            Self::Trial(start, way, subset) => write!(f, "{start}.{way}.n{subset}"),
        }
    }
}

/// A question of the study; its trials bring the pre-training they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Pre-trained against scratch under the paper's protocol.
    Paper,
    /// The same after each start's own sweep.
    Tuned,
    /// Scratch after the paper's sweep of 144 combinations.
    Published,
    /// Linear and attentive probes, of pre-trained and of random features.
    Probes,
    /// The in-site reference.
    InSite,
    /// Few-shot curves.
    Shots,
    /// Pre-training on 10 and 30 % of the pool.
    Scaling,
}

/// The jobs of some parts, the most wanted first.
pub(crate) fn jobs(parts: &[Part], seeds: u64, subsets: u64, sweeps: &Sweeps) -> Vec<Job> {
    let asked = |part| parts.contains(&part);
    let percents = PERCENTS
        .into_iter()
        .filter(|share| *share == 100 || asked(Part::Scaling));
    let pretrained: Vec<Start> = percents
        .flat_map(|percent| OBJECTIVES.map(|objective| Some((objective, percent))))
        .flat_map(|pretrained| (0..seeds).map(move |seed| Start { pretrained, seed }))
        .collect();
    let scratch: Vec<Start> = (0..seeds)
        .map(|seed| Start {
            pretrained: None,
            seed,
        })
        .collect();
    let whole = |start: &Start| start.pretrained.is_none_or(|(_, percent)| percent == 100);
    let all: Vec<Start> = scratch.iter().chain(&pretrained).copied().collect();
    let main: Vec<Start> = all.iter().filter(|start| whole(start)).copied().collect();

    let mut jobs: Vec<Job> = pretrained.into_iter().map(Job::Pretrain).collect();
    let mut add = |starts: &[Start], ways: &[Way]| {
        for subset in 0..subsets {
            for start in starts {
                jobs.extend(ways.iter().map(|way| Job::Trial(*start, *way, subset)));
            }
        }
    };
    if asked(Part::Paper) || asked(Part::Scaling) {
        add(
            if asked(Part::Scaling) { &all } else { &main },
            &[Way::Paper],
        );
    }
    if asked(Part::Probes) {
        add(&main, &[Way::Linear, Way::Attentive]);
    }
    if asked(Part::InSite) {
        add(&scratch, &[0, 1, 2].map(Way::InSite));
    }
    if asked(Part::Tuned) {
        let combinations = 0..sweeps.of(Sweep::Own).len();
        let mut sweep: Vec<Way> = combinations
            .map(|index| Way::Combination(Sweep::Own, index))
            .collect();
        sweep.push(Way::Tuned(Sweep::Own));
        add(&main, &sweep);
    }
    if asked(Part::Shots) {
        add(&main, &[Way::SimpleShot]);
        for task in 0..SHOT_TASKS.len() {
            let shots: Vec<Way> = (0..SHOTS.len()).map(|k| Way::Shots { task, k }).collect();
            add(&main, &shots);
        }
    }
    if asked(Part::Published) {
        jobs.extend(sweeps.trials(Sweep::Published, scratch[0], 0));
        for subset in 0..subsets {
            let chosen = Way::Tuned(Sweep::Published);
            let trained = scratch
                .iter()
                .map(|start| Job::Trial(*start, chosen, subset));
            jobs.extend(trained);
        }
    }
    jobs
}
