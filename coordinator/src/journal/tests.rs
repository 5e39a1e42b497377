use protocol::Round;

use super::*;

fn launch(run: &str) -> Launch {
    Launch {
        run: RunId::new(run).unwrap(),
        plan: b"plan".to_vec(),
        signature: b"signature".to_vec(),
        schema: b"schema".to_vec(),
        at: Timestamp(7),
    }
}

fn start() -> Checkpoint {
    Checkpoint {
        round: Round(0),
        step: 0,
        model: Digest::of(b"model"),
        moments: None,
    }
}

fn joined(site: &str) -> Event {
    Event::Joined {
        site: site.parse().unwrap(),
    }
}

#[test]
fn events_come_back_in_order_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch("run-1");
    {
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.launch(&launch, start()).unwrap();
        for (at, site) in [(8, "north"), (9, "south")] {
            journal
                .append(&launch.run, Timestamp(at), &joined(site), &[])
                .unwrap();
        }
    }
    let journal = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.launches().unwrap(), std::slice::from_ref(&launch));
    let entries = journal.entries(&launch.run).unwrap();
    let events: Vec<Event> = entries
        .iter()
        .map(|entry| entry.event(&launch.run).unwrap())
        .collect();
    let first = Event::Launched {
        checkpoint: start(),
    };
    assert_eq!(events, [first, joined("north"), joined("south")]);
    assert_eq!(journal.len(&launch.run).unwrap(), 3);
}

#[test]
fn a_second_coordinator_on_the_directory_is_refused_until_the_first_ends() {
    let directory = tempfile::tempdir().unwrap();
    let first = Journal::open(directory.path()).unwrap();
    let error = Journal::open(directory.path()).err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("journal: another coordinator is running on ")
    );
    // As a child of another thread would hold it that has not begun its program yet.
    let copy = first._lock.as_ref().unwrap().share().unwrap();
    drop(first);
    Journal::open(directory.path()).unwrap();
    drop(copy);
}

#[test]
fn a_run_can_be_launched_beside_the_process_that_serves() {
    let directory = tempfile::tempdir().unwrap();
    let serving = Journal::open(directory.path()).unwrap();
    let mut beside = Journal::open_shared(directory.path()).unwrap();
    beside.launch(&launch("run-1"), start()).unwrap();
    assert_eq!(serving.launches().unwrap().len(), 1);
    let error = beside.launch(&launch("run-1"), start()).unwrap_err();
    assert_eq!(error.to_string(), "run run-1 exists already");
}

#[test]
fn looking_at_a_directory_without_a_journal_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    let expected = format!("journal: there is none at {}", path.display());
    let looks = || {
        [
            Journal::open_existing(directory.path()),
            Journal::open_read_only(&path),
        ]
    };
    for look in looks() {
        assert_eq!(look.err().unwrap().to_string(), expected);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    // Nor does it make a journal of an empty file.
    fs::write(&path, "").unwrap();
    for look in looks() {
        assert_eq!(look.err().unwrap().to_string(), expected);
    }
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn a_database_of_an_earlier_version_keeps_its_events_and_can_be_asked_to_stop_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch("run-1");
    let mut journal = Journal::open(directory.path()).unwrap();
    journal.launch(&launch, start()).unwrap();
    let before = journal.entries(&launch.run).unwrap();
    let later = "DROP TABLE stops; DROP TABLE collections";
    journal.db.execute_batch(later).unwrap();
    journal.db.pragma_update(None, "user_version", 1).unwrap();
    drop(journal);
    let mut journal = Journal::open_existing(directory.path()).unwrap();
    assert_eq!(journal.entries(&launch.run).unwrap(), before);
    assert_eq!(journal.stops().unwrap(), []);
    for _ in 0..2 {
        journal.ask_stop(&launch.run, Timestamp(9)).unwrap();
    }
    assert_eq!(journal.stops().unwrap(), std::slice::from_ref(&launch.run));
    journal.forget_stop(&launch.run).unwrap();
    assert_eq!(journal.stops().unwrap(), []);
    let unknown = RunId::new("run-2").unwrap();
    journal.ask_stop(&unknown, Timestamp(9)).unwrap_err();
}

#[test]
fn rounds_that_were_collected_are_known_after_reopening_and_never_become_fewer() {
    let directory = tempfile::tempdir().unwrap();
    let run = launch("run-1").run;
    let mut journal = Journal::open(directory.path()).unwrap();
    journal.launch(&launch("run-1"), start()).unwrap();
    assert_eq!(journal.collected(&run).unwrap(), None);
    for through in [2, 5, 3] {
        journal.note_collected(&run, Round(through)).unwrap();
    }
    let unknown = RunId::new("run-2").unwrap();
    journal.note_collected(&unknown, Round(1)).unwrap_err();
    drop(journal);
    let path = directory.path().join(DATABASE_FILE);
    let journal = Journal::open_read_only(&path).unwrap();
    assert_eq!(journal.collected(&run).unwrap(), Some(Round(5)));
    drop(journal);
    // A journal that only an earlier version has served says that nothing was.
    let old = Connection::open(&path).unwrap();
    old.execute_batch("DROP TABLE collections").unwrap();
    old.pragma_update(None, "user_version", 2).unwrap();
    drop(old);
    let journal = Journal::open_read_only(&path).unwrap();
    assert_eq!(journal.collected(&run).unwrap(), None);
}

#[test]
fn every_kind_of_tampering_breaks_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    let run = launch("run-1").run;
    for tampering in [
        "UPDATE events SET body = replace(body, 'south', 'north') WHERE seq = 2",
        "UPDATE events SET at = at + 1 WHERE seq = 1",
        "UPDATE events SET hash = zeroblob(32) WHERE seq = 3",
        "DELETE FROM events WHERE seq = 1",
        "UPDATE events SET seq = seq + 1 WHERE seq = 3",
    ] {
        let path = directory
            .path()
            .join(Digest::of(tampering.as_bytes()).to_string());
        let mut journal = Journal::open(&path).unwrap();
        journal.launch(&launch("run-1"), start()).unwrap();
        for site in ["north", "south", "east"] {
            journal
                .append(&run, Timestamp(9), &joined(site), &[])
                .unwrap();
        }
        journal.entries(&run).unwrap();
        assert_eq!(journal.db.execute(tampering, []).unwrap(), 1);
        let error = journal.entries(&run).unwrap_err();
        assert!(
            matches!(error, JournalError::Broken { .. }),
            "{tampering}: {error}"
        );
    }
}

#[test]
fn documents_are_found_by_digest_and_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let launch = launch("run-1");
    journal.launch(&launch, start()).unwrap();
    for _ in 0..2 {
        let documents = [Document { bytes: b"manifest" }];
        journal
            .append(&launch.run, Timestamp(9), &joined("north"), &documents)
            .unwrap();
    }
    assert_eq!(
        journal.document(Digest::of(b"manifest")).unwrap().unwrap(),
        b"manifest"
    );
    assert_eq!(journal.document(Digest::of(b"other")).unwrap(), None);
    assert_eq!(journal.documents(&launch.run).unwrap().len(), 1);
}

#[test]
fn a_backup_taken_while_in_use_holds_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let launch = launch("run-1");
    journal.launch(&launch, start()).unwrap();
    let copy = directory.path().join("copy.sqlite");
    journal.backup(&copy).unwrap();
    journal
        .append(&launch.run, Timestamp(9), &joined("north"), &[])
        .unwrap();
    let backup = Journal::open_read_only(&copy).unwrap();
    assert_eq!(backup.entries(&launch.run).unwrap().len(), 1);
    assert_eq!(journal.entries(&launch.run).unwrap().len(), 2);
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.db.pragma_update(None, "user_version", 99).unwrap();
    drop(journal);
    let error = Journal::open(directory.path()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "journal: schema version 99, this program knows 3"
    );
}

#[test]
fn a_new_journal_that_many_open_at_once_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                Journal::open_shared(directory.path()).unwrap();
            });
        }
    });
    Journal::open(directory.path()).unwrap();
}
