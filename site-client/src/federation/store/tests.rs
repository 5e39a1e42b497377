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
