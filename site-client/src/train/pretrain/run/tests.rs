use core_model::state::StateDict;
use half::f16;
use tempfile::TempDir;

use super::*;
use crate::train::data::{Reading, Windowed, stream};
use crate::train::{Config, Preset, pretrain::Batch};

mod resume;
mod steps;

const OBJECTIVES: [Objective; 2] = [Objective::Dino, Objective::Mae];

/// Smooth random volumes; chosen scans cannot be read or hold no numbers.
#[derive(Debug)]
struct Synthetic {
    scans: usize,
    channels: usize,
    unreadable: Vec<usize>,
    poisoned: Vec<usize>,
    /// First of the numbers that are in the ids.
    numbered: usize,
    origin: Option<&'static str>,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            scans: 20,
            channels: 3,
            unreadable: Vec::new(),
            poisoned: Vec::new(),
            numbered: 0,
            origin: None,
        }
    }
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        self.scans
    }

    fn id(&self, scan: usize) -> String {
        format!("scan-{}", self.numbered + scan)
    }

    fn origin(&self) -> Option<String> {
        self.origin.map(str::to_owned)
    }

    fn load(&self, scan: usize, _: Reading) -> Result<Arc<Windowed>, String> {
        if self.unreadable.contains(&scan) {
            return Err("gzip: unexpected end of file".into());
        }
        let wave =
            |axis: u64| 1.0 + stream(9, "wave", &[scan as u64, axis]) as f32 / u64::MAX as f32;
        let (u, v, w) = (wave(0), wave(1), wave(2));
        let voxel = |place: usize| {
            let [c, i, j, k] =
                [place / 512, place / 64 % 8, place / 8 % 8, place % 8].map(|n| n as f32);
            let value = 0.5 + 0.5 * (u * i + v * j + w * k + c).sin();
            if self.poisoned.contains(&scan) {
                f16::NAN
            } else {
                f16::from_f32(value)
            }
        };
        let values = (0..self.channels * 512).map(voxel).collect();
        Ok(Arc::new(Windowed {
            channels: self.channels,
            size: 8,
            values,
        }))
    }
}

fn plan(settings: &[&str]) -> Plan {
    let shape = [
        "model.input=8",
        "dino.cube=8",
        "dino.local_cube=8",
        "dino.global_crop=[5, 8]",
        "dino.local_crop=[3, 5]",
        "model.patch=4",
        "model.dim=12",
        "model.depth=2",
        "model.heads=2",
        "model.mlp=24",
        "dino.head_hidden=16",
        "dino.head_bottleneck=8",
        "dino.prototypes=24",
        "mae.decoder_dim=12",
        "mae.decoder_heads=2",
        "mae.decoder_mlp=24",
        "dino.length={ steps = 9 }",
        "mae.length={ steps = 9 }",
        "dino.global_batch=6",
        "mae.global_batch=6",
        "dino.device_batch=6",
        "mae.device_batch=6",
        "dino.freeze_last_layer={ steps = 2 }",
        "pretrain.log_every=3",
        "pretrain.checkpoint_every=4",
    ];
    let settings: Vec<String> = shape
        .iter()
        .chain(settings)
        .map(|s| (*s).to_owned())
        .collect();
    Plan::new(Config::resolve(Preset::Tiny, None, &settings).unwrap()).unwrap()
}

fn device() -> Device {
    Device::flex()
}

fn scans(scans: usize) -> Arc<dyn Source> {
    Arc::new(Synthetic {
        scans,
        ..Synthetic::default()
    })
}

fn run(dir: &TempDir, objective: Objective, plan: &Plan, resume: bool, stop: &Stop) -> Outcome {
    let run = PretrainRun {
        plan: plan.clone(),
        objective,
        dir: dir.path().to_owned(),
        resume,
        stop: stop.clone(),
    };
    run.execute(scans(20), &[device()]).unwrap()
}

fn checkpoint(dir: &TempDir) -> Vec<u8> {
    fs::read(dir.path().join(CHECKPOINT)).unwrap()
}

#[test]
fn a_resumed_run_writes_the_same_bytes_as_one_that_never_stopped() {
    for objective in OBJECTIVES {
        let plan = plan(&[]);
        let whole = tempfile::tempdir().unwrap();
        assert_eq!(run(&whole, objective, &plan, false, &Stop::new()).step, 9);

        let halves = tempfile::tempdir().unwrap();
        // A stop asked for beforehand ends each process after one step; steps 1 to 3 are three
        // processes, the rest is a fourth.
        let stop = Stop::new();
        stop.request();
        for step in 1..=3 {
            let outcome = run(&halves, objective, &plan, step > 1, &stop);
            assert!(outcome.stretch.stopped);
            assert_eq!(outcome.step, step);
        }
        let outcome = run(&halves, objective, &plan, true, &Stop::new());
        assert_eq!(outcome.step, 9);
        assert!(checkpoint(&whole) == checkpoint(&halves), "{objective:?}");
    }
}

#[test]
fn one_seed_gives_one_model_on_any_number_of_threads_and_another_seed_another() {
    for objective in OBJECTIVES {
        let trained = |threads: usize, workers: usize, seed: u64| {
            let settings = [format!("data.workers={workers}"), format!("seed={seed}")];
            let plan = plan(&settings.each_ref().map(|s| &**s));
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let feed = Arc::new(Feed::new(&plan, objective, scans(20)));
                let mut training = Pretraining::new(&plan, objective, 20, &device()).unwrap();
                let go_on =
                    &mut |_: &Pretraining, _: &StepReport, _: &Skipped| ControlFlow::Continue(());
                training
                    .train(&feed, 5, &mut Skipped::default(), go_on)
                    .unwrap();
                training.parameters()
            })
        };
        let first = trained(1, 1, 1);
        assert!(first == trained(1, 1, 1), "{objective:?}: same again");
        assert!(
            first == trained(2, 3, 1),
            "{objective:?}: two threads, three workers"
        );
        assert!(first != trained(1, 1, 2), "{objective:?}: another seed");
    }
}

#[test]
fn parameters_go_out_and_in_and_training_goes_on_as_if_they_had_stayed() {
    for objective in OBJECTIVES {
        let plan = plan(&[]);
        let feed = Arc::new(Feed::new(&plan, objective, scans(20)));
        let go_on = &mut |_: &Pretraining, _: &StepReport, _: &Skipped| ControlFlow::Continue(());
        let skipped = &mut Skipped::default();
        let mut whole = Pretraining::new(&plan, objective, 20, &device()).unwrap();
        whole.train(&feed, 3, skipped, go_on).unwrap();

        let other_seed = Config {
            seed: 8,
            ..plan.config().clone()
        };
        let mut other =
            Pretraining::new(&Plan::new(other_seed).unwrap(), objective, 20, &device()).unwrap();
        other.load(&whole.parameters()).unwrap();
        other.set_moments(whole.moments()).unwrap();
        other.set_steps_done(whole.steps_done());
        if let Some(teacher) = whole.teacher() {
            other.set_teacher(&teacher).unwrap();
            other.set_center(&whole.center().unwrap()).unwrap();
        }
        whole.train(&feed, 2, skipped, go_on).unwrap();
        other.train(&feed, 2, skipped, go_on).unwrap();
        assert!(whole.parameters() == other.parameters(), "{objective:?}");
        assert!(whole.teacher() == other.teacher(), "{objective:?}");
    }
}

#[test]
fn an_unreadable_scan_is_named_and_replaced_and_one_in_a_hundred_is_the_most() {
    let plan = plan(&[]);
    let go_on = &mut |_: &Pretraining, _: &StepReport, _: &Skipped| ControlFlow::Continue(());
    let source = |unreadable: Vec<usize>| -> Arc<dyn Source> {
        Arc::new(Synthetic {
            scans: 100,
            unreadable,
            ..Synthetic::default()
        })
    };
    let mut train = |unreadable| {
        let feed = Arc::new(Feed::new(&plan, Objective::Mae, source(unreadable)));
        let mut training = Pretraining::new(&plan, Objective::Mae, 100, &device()).unwrap();
        let mut skipped = Skipped::default();
        // An epoch and a bit.
        let stretch = training.train(&feed, 18, &mut skipped, go_on)?;
        Ok::<_, TrainError>((stretch.scans, skipped.len()))
    };
    assert_eq!(
        train(vec![7]).unwrap(),
        (108, 1),
        "full batches, one scan skipped"
    );
    let error = train(vec![7, 31]).unwrap_err().to_string();
    assert!(
        error.contains("2 of 100") && error.contains("scan-31"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_step_scans_and_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&[
        "pretrain.checkpoint_every=1",
        "mae.global_batch=2",
        "mae.device_batch=2",
    ]);
    let poisoned = plan_scan(&plan, 2);
    let source = Synthetic {
        scans: 20,
        poisoned: vec![poisoned],
        ..Synthetic::default()
    };
    let run = PretrainRun {
        plan,
        objective: Objective::Mae,
        dir: dir.path().to_owned(),
        resume: false,
        stop: Stop::new(),
    };
    let error = run
        .execute(Arc::new(source), &[device()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("step 2") && error.contains(&format!("scan-{poisoned}")),
        "{error}"
    );
    assert!(error.contains(CHECKPOINT), "{error}");
    assert!(
        Checkpoint::load(&dir.path().join(CHECKPOINT)).is_ok(),
        "the last good one stands"
    );
}

/// Makes the gradient of the encoder's last norm overflow while every output stays what it was.
fn overflow_gradients(checkpoint: &mut Checkpoint) {
    const FACTOR: f32 = 1e30;
    for (name, factor) in [
        ("model/norm.weight", 1.0 / FACTOR),
        ("model/decoder_embed.weight", FACTOR),
    ] {
        let tensor = checkpoint.tensors.get_mut(name).unwrap();
        tensor.values.iter_mut().for_each(|value| *value *= factor);
    }
}

#[test]
fn a_gradient_that_is_no_number_stops_the_run_before_it_reaches_parameters_or_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&["pretrain.checkpoint_every=1"]);
    let stop = Stop::new();
    stop.request();
    assert_eq!(run(&dir, Objective::Mae, &plan, false, &stop).step, 1);
    let path = dir.path().join(CHECKPOINT);
    let mut good = Checkpoint::load(&path).unwrap();
    overflow_gradients(&mut good);
    good.save(&path).unwrap();

    let run = PretrainRun {
        plan: plan.clone(),
        objective: Objective::Mae,
        dir: dir.path().to_owned(),
        resume: true,
        stop: Stop::new(),
    };
    let error = run.execute(scans(20), &[device()]).unwrap_err();
    let TrainError::Diverged {
        step,
        figure,
        value,
        scans: named,
        checkpoint,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*step, *figure, named.len()), (2, "gradient norm", 6));
    assert!(!value.is_finite(), "{error}");
    let feed = Feed::new(&plan, Objective::Mae, scans(20));
    let batch = feed.prepare(1).scans;
    let batch: Vec<String> = batch.iter().map(|scan| format!("scan-{scan}")).collect();
    assert_eq!(*named, batch);
    assert_eq!(checkpoint.as_deref(), Some(&*path));
    assert!(Checkpoint::load(&path).unwrap() == good, "left as it was");
}

#[test]
fn a_stop_asked_for_in_the_last_step_comes_too_late_to_stop_the_run() {
    for objective in OBJECTIVES {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(&["dino.length={ steps = 1 }", "mae.length={ steps = 1 }"]);
        let stop = Stop::new();
        stop.request();
        let outcome = run(&dir, objective, &plan, false, &stop);
        assert!(outcome.step == 1 && !outcome.stretch.stopped);
        assert!(dir.path().join(BACKBONE).exists(), "{objective:?}");
    }
}

/// The scan of sample `sample`.
fn plan_scan(plan: &Plan, sample: usize) -> usize {
    let feed = Feed::new(plan, Objective::Mae, scans(20));
    let batches: Vec<Batch> = (0..2).map(|pass| feed.prepare(pass)).collect();
    batches[sample / 2].scans[sample % 2]
}

#[test]
fn a_checkpoint_of_another_run_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    run(&dir, Objective::Mae, &plan(&[]), false, &Stop::new());
    let attempt = |objective, plan: Plan, resume, source| {
        let dir = dir.path().to_owned();
        let run = PretrainRun {
            plan,
            objective,
            dir,
            resume,
            stop: Stop::new(),
        };
        run.execute(source, &[device()]).unwrap_err().to_string()
    };
    let (mae, dino) = (Objective::Mae, Objective::Dino);
    let again = attempt(mae, plan(&[]), false, scans(20));
    assert!(again.contains("earlier run"), "{again}");
    let objective = attempt(dino, plan(&[]), true, scans(20));
    assert!(
        objective.contains("expected Dino, found Mae"),
        "{objective}"
    );
    let other = attempt(mae, plan(&["model.depth=1"]), true, scans(20));
    assert!(
        other.contains("depth = 1") && other.contains("depth = 2"),
        "{other}"
    );
    let fewer = attempt(mae, plan(&[]), true, scans(19));
    assert!(fewer.contains("expected 19, found 20"), "{fewer}");
}
