//! Which checkpoints a run goes on from, and what it does when one cannot be written.

use super::*;

fn attempt(dir: &TempDir, plan: &Plan, source: Synthetic, stop: &Stop) -> Result<Outcome, String> {
    let run = PretrainRun {
        plan: plan.clone(),
        objective: Objective::Mae,
        dir: dir.path().to_owned(),
        resume: dir.path().join(CHECKPOINT).exists(),
        stop: stop.clone(),
    };
    let outcome = run.execute(Arc::new(source), &[device()]);
    outcome.map_err(|error| error.to_string())
}

fn stopping() -> Stop {
    let stop = Stop::new();
    stop.request();
    stop
}

/// A run that was stopped after its first step, on phantoms of seed 7.
fn begun() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let outcome = attempt(&dir, &plan(&[]), seeded("seed 7"), &stopping()).unwrap();
    assert_eq!((outcome.step, outcome.saved), (1, Some(1)));
    dir
}

fn seeded(origin: &'static str) -> Synthetic {
    Synthetic {
        origin: Some(origin),
        ..Synthetic::default()
    }
}

/// A folder in the way of the file that a checkpoint is first written to: a full disk.
fn block(dir: &TempDir) {
    fs::create_dir(dir.path().join(format!("{CHECKPOINT}.partial"))).unwrap();
}

#[test]
fn as_many_scans_of_another_seed_or_of_other_ids_are_refused() {
    let (dir, plan) = (begun(), plan(&[]));
    let other = attempt(&dir, &plan, seeded("seed 8"), &Stop::new()).unwrap_err();
    assert!(
        other.contains("training scans: expected seed 8, found seed 7"),
        "{other}"
    );
    let renamed = Synthetic {
        numbered: 1,
        ..seeded("seed 7")
    };
    let other = attempt(&dir, &plan, renamed, &Stop::new()).unwrap_err();
    assert!(
        other.contains("training scans: expected the ids of digest")
            && other.contains("found as many others"),
        "{other}"
    );
    attempt(&dir, &plan, seeded("seed 7"), &Stop::new()).unwrap();
}

#[test]
fn a_checkpoint_of_before_scans_were_kept_in_it_is_gone_on_from() {
    let (dir, plan) = (begun(), plan(&[]));
    let path = dir.path().join(CHECKPOINT);
    let mut old = Checkpoint::load(&path).unwrap();
    let source = old.state.as_object_mut().unwrap().remove("source");
    assert!(source.is_some());
    old.save(&path).unwrap();
    let fewer = Synthetic {
        scans: 19,
        ..seeded("seed 8")
    };
    let other = attempt(&dir, &plan, fewer, &Stop::new()).unwrap_err();
    assert!(other.contains("expected 19, found 20"), "{other}");
    let outcome = attempt(&dir, &plan, seeded("seed 8"), &Stop::new()).unwrap();
    assert_eq!(outcome.step, 9);
    let new = Checkpoint::load(&path).unwrap();
    assert!(!new.state["source"].is_null(), "kept from now on");
}

#[test]
fn the_setting_that_differs_is_named_with_its_section_and_not_one_that_may() {
    let dir = begun();
    let other = plan(&["data.workers=3", "data.queue=9", "mae.shift=0.25"]);
    let error = attempt(&dir, &other, seeded("seed 7"), &Stop::new()).unwrap_err();
    assert!(
        error.ends_with("configuration: expected mae.shift = 0.25, found mae.shift = 0.1"),
        "{error}"
    );
    let longer = plan(&["mae.length={ epochs = 5.0 }"]);
    let error = attempt(&dir, &longer, seeded("seed 7"), &Stop::new()).unwrap_err();
    assert!(
        error.contains("expected mae.length = { epochs = 5.0 }, found mae.length = { steps = 9 }"),
        "{error}"
    );
    let allowed = plan(&["data.workers=3", "data.queue=9"]);
    attempt(&dir, &allowed, seeded("seed 7"), &Stop::new()).unwrap();
}

#[test]
fn a_stop_whose_checkpoint_cannot_be_written_tells_the_step_of_the_last_one() {
    let (dir, plan) = (begun(), plan(&[]));
    block(&dir);
    let outcome = attempt(&dir, &plan, seeded("seed 7"), &stopping()).unwrap();
    assert_eq!((outcome.step, outcome.saved), (2, Some(1)));

    let fresh = tempfile::tempdir().unwrap();
    block(&fresh);
    let outcome = attempt(&fresh, &plan, seeded("seed 7"), &stopping()).unwrap();
    assert_eq!((outcome.step, outcome.saved), (1, None));
}

#[test]
fn weights_are_written_at_the_end_though_the_checkpoint_cannot_be() {
    let (dir, plan) = (begun(), plan(&[]));
    block(&dir);
    let error = attempt(&dir, &plan, seeded("seed 7"), &Stop::new()).unwrap_err();
    let (failed, written) = error.split_once("; written: ").unwrap();
    assert!(
        failed.contains(CHECKPOINT) && !failed.contains(BACKBONE),
        "{error}"
    );
    assert!(written.ends_with(BACKBONE), "{error}");
    assert!(dir.path().join(BACKBONE).is_file());

    fs::remove_file(dir.path().join(BACKBONE)).unwrap();
    fs::create_dir(dir.path().join(BACKBONE)).unwrap();
    let error = attempt(&dir, &plan, seeded("seed 7"), &Stop::new()).unwrap_err();
    let (failed, written) = error.split_once("; written: ").unwrap();
    assert!(
        failed.contains(CHECKPOINT) && failed.contains(BACKBONE),
        "{error}"
    );
    assert_eq!(written, "nothing", "{error}");
}
