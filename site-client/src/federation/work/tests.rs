use std::fs;
use std::path::Path;

use protocol::{Params, Round};

use super::super::session::{State, Working};
use super::super::stand_in::StandIn;
use super::super::trainer::{Flow, Report, Trained};
use super::*;

/// Keeps a file from round to round, and remembers what it was given to score.
struct Keeping {
    stand_in: StandIn,
    scored: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl Trainer for Keeping {
    fn schema(&mut self, plan: &Plan) -> Result<Schema, TrainError> {
        self.stand_in.schema(plan)
    }

    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError> {
        fs::write(job.keep.join("moments"), job.round.to_string()).unwrap();
        self.stand_in.train(job, flow)
    }

    fn evaluate(&mut self, job: &EvaluateJob<'_>, _: &mut Flow<'_>) -> Result<Report, TrainError> {
        let values = job.params.values().to_vec();
        self.scored.lock().unwrap().push(values);
        Ok(Report { tasks: Vec::new() })
    }
}

struct Site {
    workplace: Workplace,
    scored: Arc<Mutex<Vec<Vec<f32>>>>,
    _folder: tempfile::TempDir,
}

impl Site {
    fn new(tail: &str) -> Self {
        let text = format!(
            "name = \"test\"\nobjective = \"dino\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             initial = \"{}\"\nrounds = 4\nstatistics = [\"center\"]\n\
             cohort = {{ rule = \"full\", sites = [\"north\"] }}\n\
             local = {{ steps = 10, batch_size = 1, optimizer_state = \"keep\" }}\n\
             schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n{tail}\n",
            "0".repeat(64)
        );
        let plan = Plan::parse(text.as_bytes()).unwrap();
        let params = Params::from_tensors([("w".to_owned(), vec![2], vec![0.0; 2])]).unwrap();
        let schema = params.schema().clone();
        let folder = tempfile::tempdir().unwrap();
        let run = "run-1".parse().unwrap();
        let scored = Arc::default();
        let trainer = Keeping {
            stand_in: StandIn {
                schema: schema.clone(),
                examples: 5,
            },
            scored: Arc::clone(&scored),
        };
        let workplace = Workplace {
            store: SiteStore::open(&folder.path().join("runs"), &run).unwrap(),
            blobs: BlobStore::open(folder.path().join("store")).unwrap(),
            run,
            site: "north".parse().unwrap(),
            layout: Arc::new(Layout::new([("w", 2)], plan.config())),
            plan: Arc::new(plan),
            schema: Arc::new(schema),
            trainer: Arc::new(Mutex::new(Box::new(trainer))),
        };
        Self {
            workplace,
            scored,
            _folder: folder,
        }
    }

    fn task(&self, work: Work, round: u32, model: &[f32]) -> Task {
        let model: Vec<u8> = model.iter().flat_map(|value| value.to_le_bytes()).collect();
        Task {
            run: self.workplace.run.clone(),
            round: Round(round),
            model: self.workplace.blobs.put(&model).unwrap().digest,
            first_step: 0,
            work,
        }
    }

    fn work(&self, task: &Task) -> Result<Ready, WorkError> {
        let canceled = AtomicBool::new(false);
        self.workplace.work(task, &canceled, |_, _, _| {})
    }

    /// Trains; the update arrives, and another task follows.
    fn count(&mut self, round: u32, model: &[f32]) {
        let task = self.task(Work::Train, round, model);
        let ready = self.work(&task).unwrap();
        let other = self.task(Work::Train, round + 1, model);
        for current in [
            (task, Working::Delivered(ready)),
            (other, Working::Fetching),
        ] {
            let current = Some(current);
            self.workplace.store.persist(&State { current }).unwrap();
        }
    }
}

#[test]
fn an_evaluation_is_of_the_global_model_also_where_training_starts_from_a_mixture() {
    let mut site =
        Site::new("dino = { teacher = \"local\" }\nstrategy = { name = \"fedema\", tau = 0.5 }");
    site.count(1, &[1.0, 2.0]);
    let own = site.workplace.store.carried().unwrap().previous.unwrap();
    assert_ne!(own, [5.0, 6.0]);
    site.work(&site.task(Work::Evaluate, 1, &[5.0, 6.0]))
        .unwrap();
    assert_eq!(*site.scored.lock().unwrap(), [[5.0, 6.0]]);
}

#[test]
fn an_evaluation_is_of_the_teacher_where_the_coordinator_publishes_one() {
    let site = Site::new("dino = { teacher = \"server-ema\" }");
    let (student, teacher) = ([1.0, 2.0], [3.0, 4.0]);
    let model = [student, teacher].concat();
    site.work(&site.task(Work::Evaluate, 1, &model)).unwrap();
    assert_eq!(*site.scored.lock().unwrap(), [teacher]);
}

#[test]
fn a_round_after_one_that_counted_fails_without_what_was_kept_and_says_so_without_paths() {
    let mut site = Site::new("dino = { teacher = \"local\" }");
    site.count(1, &[1.0, 2.0]);
    let task = site.task(Work::Train, 2, &[1.0, 2.0]);
    let kept = site.workplace.store.kept().unwrap();
    assert_eq!(fs::read(kept.join("moments")).unwrap(), b"1");
    site.work(&task).unwrap();
    let told = |change: &dyn Fn(&Path)| {
        change(&kept.join("moments"));
        site.work(&task).unwrap_err().to_string()
    };
    let expected = "site state: what an earlier round left is missing or damaged; \
                    the site's log says what to do";
    assert_eq!(told(&|file| fs::write(file, b"").unwrap()), expected);
    assert_eq!(told(&|file| fs::remove_file(file).unwrap()), expected);
}

#[test]
fn a_damaged_or_missing_model_is_neither_trained_from_nor_scored_and_makes_room_for_the_next() {
    let site = Site::new("dino = { teacher = \"local\" }");
    for work in [Work::Train, Work::Evaluate] {
        for damage in [&[1_u8; 8][..], &[0; 7], &[]] {
            let task = site.task(work, 1, &[0.0, 0.0]);
            let file = site.workplace.blobs.path(task.model);
            if damage.is_empty() {
                fs::remove_file(&file).unwrap();
            } else {
                fs::write(&file, damage).unwrap();
            }
            let error = site.work(&task).unwrap_err();
            assert!(
                matches!(error, WorkError::ModelLost(model) if model == task.model),
                "{error}"
            );
            assert!(!site.workplace.blobs.contains(task.model));
        }
    }
    assert!(site.scored.lock().unwrap().is_empty());
    site.work(&site.task(Work::Train, 1, &[0.0, 0.0])).unwrap();
}
