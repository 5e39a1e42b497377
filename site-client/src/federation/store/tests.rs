use std::time::Duration;

use protocol::Round;
use protocol::message::Work;

use super::super::session::{Ready, Task};
use super::*;

fn run() -> RunId {
    "run-1".parse().unwrap()
}

fn task() -> Task {
    Task {
        run: run(),
        round: Round(1),
        model: Digest::of(b"model"),
        first_step: 0,
        work: Work::Train,
    }
}

fn carried() -> Carried {
    Carried {
        local: vec![1.0, 2.0],
        teacher: None,
        control: Some(vec![0.5]),
        previous: Some(vec![3.0; 3]),
        lambda: Some(0.25),
        residual: Some(vec![-1.0]),
    }
}

fn ready(store: &SiteStore, update: &[u8]) -> Ready {
    let blob = Digest::of(update);
    store.keep_carried(blob, &carried()).unwrap();
    Ready {
        blob,
        bytes: update.len() as u64,
        examples: 1,
        steps: 1,
        norm: None,
    }
}

fn at(working: Working) -> State {
    State {
        current: Some((task(), working)),
    }
}

fn next() -> State {
    State {
        current: Some((
            Task {
                round: Round(2),
                ..task()
            },
            Working::Fetching,
        )),
    }
}

#[test]
fn what_a_round_leaves_is_current_once_its_update_arrived_and_the_next_task_came() {
    let root = tempfile::tempdir().unwrap();
    let mut store = SiteStore::open(root.path(), &run()).unwrap();
    fs::write(store.keep().unwrap().join("moments"), b"m").unwrap();
    let ready = ready(&store, b"update");
    store.persist(&at(Working::Ready(ready.clone()))).unwrap();
    assert_eq!(store.carried().unwrap(), Carried::default());
    assert!(!store.kept().unwrap().join("moments").exists());
    store.persist(&at(Working::Delivered(ready))).unwrap();
    assert_eq!(store.carried().unwrap(), Carried::default());
    store.persist(&next()).unwrap();
    let store = SiteStore::open(root.path(), &run()).unwrap();
    assert_eq!(store.carried().unwrap(), carried());
    assert!(store.kept().unwrap().join("moments").exists());
}

#[test]
fn an_update_that_never_arrived_leaves_no_trace() {
    let root = tempfile::tempdir().unwrap();
    let mut store = SiteStore::open(root.path(), &run()).unwrap();
    let first = ready(&store, b"first");
    store
        .persist(&at(Working::Delivered(first.clone())))
        .unwrap();
    store.persist(&next()).unwrap();
    let second = ready(&store, b"second");
    store.persist(&at(Working::Ready(second.clone()))).unwrap();
    store.persist(&at(Working::Fetching)).unwrap();
    assert!(
        !root
            .path()
            .join("run-1/carried")
            .join(second.blob.to_string())
            .exists()
    );
    let store = SiteStore::open(root.path(), &run()).unwrap();
    assert_eq!(store.carried().unwrap(), carried());
    assert_eq!(store.state(), &at(Working::Fetching));
}

#[test]
fn a_damaged_state_is_named_and_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    drop(SiteStore::open(root.path(), &run()).unwrap());
    fs::write(root.path().join("run-1/state.json"), b"{").unwrap();
    let error = SiteStore::open(root.path(), &run()).err().unwrap();
    assert!(
        error.to_string().contains("state.json is damaged"),
        "{error}"
    );
}

#[test]
fn a_plan_comes_back_as_it_was_kept() {
    let root = tempfile::tempdir().unwrap();
    let store = SiteStore::open(root.path(), &run()).unwrap();
    assert_eq!(store.plan().unwrap(), None);
    store.keep_plan(b"plan").unwrap();
    assert_eq!(store.plan().unwrap().as_deref(), Some(&b"plan"[..]));
}

/// A store in whose last counted round the trainer kept `moments`.
fn counted(root: &Path) -> SiteStore {
    let mut store = SiteStore::open(root, &run()).unwrap();
    fs::write(store.keep().unwrap().join("moments"), b"four").unwrap();
    let ready = ready(&store, b"update");
    store.persist(&at(Working::Ready(ready.clone()))).unwrap();
    store.persist(&at(Working::Delivered(ready))).unwrap();
    store.persist(&next()).unwrap();
    SiteStore::open(root, &run()).unwrap()
}

#[test]
fn files_a_counted_round_kept_are_there_whole_or_their_loss_is_named_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let store = counted(root.path());
    let file = store.kept().unwrap().join("moments");
    for (bytes, found) in [
        (Some(&b"fou"[..]), "damaged"),
        (Some(&b"fouR"[..]), "damaged"),
        (None, "missing"),
    ] {
        match bytes {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_dir_all(file.parent().unwrap()).unwrap(),
        }
        let error = store.kept().unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("moments is {found}")), "{text}");
        assert!(
            text.contains("from a backup, or remove that folder"),
            "{text}"
        );
        assert!(error.told().contains("log says what to do"));
    }
}

#[test]
fn what_a_counted_round_carried_is_there_whole_or_its_loss_is_named_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let store = counted(root.path());
    let name = Digest::of(b"update").to_string();
    let file = root.path().join("run-1/carried").join(name);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let text = store.carried().unwrap_err().to_string();
    assert!(text.contains("is damaged"), "{text}");
    fs::remove_file(&file).unwrap();
    let text = store.carried().unwrap_err().to_string();
    assert!(
        text.contains("is missing") && text.contains("from a backup"),
        "{text}"
    );
}

#[test]
fn half_written_files_of_a_try_that_a_crash_ended_are_replaced() {
    let root = tempfile::tempdir().unwrap();
    let mut store = SiteStore::open(root.path(), &run()).unwrap();
    let kept = store.kept_path(Digest::of(b"update"));
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("moments"), b"fo").unwrap();
    fs::write(store.keep().unwrap().join("moments"), b"four").unwrap();
    let ready = ready(&store, b"update");
    store.persist(&at(Working::Delivered(ready))).unwrap();
    store.persist(&next()).unwrap();
    let file = store.kept().unwrap().join("moments");
    assert_eq!(fs::read(file).unwrap(), b"four");
}

#[test]
fn the_run_that_was_last_worked_on_is_interrupted_if_its_task_was_running() {
    let root = tempfile::tempdir().unwrap();
    let interrupted = || {
        let found = SiteStore::interrupted(root.path()).unwrap();
        found.map(|(run, _)| run.to_string())
    };
    assert_eq!(interrupted(), None);
    let write = |name: &str, working: Working, hour: u64| {
        let run = name.parse().unwrap();
        let mut store = SiteStore::open(root.path(), &run).unwrap();
        let (mut task, _) = at(working.clone()).current.unwrap();
        task.run = run;
        let current = Some((task, working));
        store.persist(&State { current }).unwrap();
        let state = File::options()
            .write(true)
            .open(store.directory.join(STATE));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600);
        state.unwrap().set_modified(time).unwrap();
    };
    write("old", Working::Running, 1);
    assert_eq!(interrupted().as_deref(), Some("old"));
    write("new", Working::Fetching, 2);
    assert_eq!(interrupted(), None);
    write("new", Working::Running, 3);
    assert_eq!(interrupted().as_deref(), Some("new"));
}
