//! `kill -9` of the real processes, at every index of the coordinator's journal: what comes back
//! finishes the run, and the final model is the undisturbed run's, byte for byte.
//!
//! The programs know nothing of this test. It holds the coordinator at an index from outside, by a
//! trigger in its database that makes one insertion take long: until the kill, or long enough for
//! the kill of a site.

use std::thread;
use std::time::{Duration, Instant};

use protocol::{Digest, Params};

use rusqlite::Connection;

use crate::network::{Network, Process, Setting};

/// The undisturbed run: its network, to be copied, its final model, and its number of events.
fn undisturbed() -> (Network, Digest, u64) {
    let template = Network::found(&setting());
    let network = template.copy();
    let sites = network.start_sites();
    finish(&network, network.serve(&[]));
    drop(sites);
    let (model, events) = (network.final_model(), network.events());
    (template, model, events)
}

/// Runs `case` for every number below `count`, a few at a time; they mostly wait.
fn each(count: u64, case: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let case = &case;
            scope.spawn(move || (first..count).step_by(AT_ONCE as usize).for_each(case));
        }
    });
}

#[test]
fn a_coordinator_killed_at_any_event_comes_back_and_makes_the_same_model() {
    let (template, expected, events) = undisturbed();
    // The launch is event 0 and not the server's; what is killed is the insertion after `index`.
    each(events - 1, |index| {
        let network = template.copy();
        hold_after(&network.database(), index, Hold::UntilKilled);
        let sites = network.start_sites();
        let mut coordinator = network.serve(&[]);
        wait_for_hold(&network, index);
        coordinator.kill();
        assert_eq!(network.events(), index + 1, "events that survive");
        let let_go = "DROP TRIGGER hold; DROP VIEW counted";
        let database = network.database();
        database.execute_batch(let_go).expect("the database");
        drop(database);
        finish(&network, network.serve(&[]));
        drop(sites);
        assert_eq!(
            network.final_model(),
            expected,
            "killed after event {index}"
        );
        network.verify(ROUNDS.into());
    });
}

#[test]
fn a_site_killed_at_any_event_comes_back_and_the_model_is_the_same() {
    let (template, expected, events) = undisturbed();
    let sites = SITES.len() as u64;
    each((events - 1) * sites, |case| {
        let (index, site) = (case / sites, (case % sites) as usize);
        let network = template.copy();
        hold_after(&network.database(), index, Hold::AWhile);
        let mut processes = network.start_sites();
        let coordinator = network.serve(&[]);
        wait_for_hold(&network, index);
        processes[site].kill();
        processes[site] = network.start_site(SITES[site]);
        finish(&network, coordinator);
        drop(processes);
        let name = SITES[site];
        assert_eq!(
            network.final_model(),
            expected,
            "{name} killed at event {index}"
        );
        network.verify(ROUNDS.into());
    });
}

/// How long the coordinator is held at an event.
#[derive(Clone, Copy)]
enum Hold {
    UntilKilled,
    AWhile,
}

/// Makes the insertion after event `index` take long.
fn hold_after(database: &Connection, index: u64, hold: Hold) {
    let rows = match hold {
        Hold::UntilKilled => i64::MAX,
        Hold::AWhile => 500_000,
    };
    database
        .execute_batch(&format!(
            "CREATE VIEW counted AS
                 WITH RECURSIVE number(n) AS
                     (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT {rows})
                 SELECT count(*) AS numbers FROM number;
             CREATE TRIGGER hold BEFORE INSERT ON events WHEN NEW.seq = {index} + 1
                 BEGIN SELECT numbers FROM counted; END"
        ))
        .expect("the database");
}

/// Waits until event `index` is durable and the next is being inserted.
fn wait_for_hold(network: &Network, index: u64) {
    wait_until("such event", || network.events() > index);
    let database = network.database();
    database.busy_timeout(Duration::ZERO).expect("a time");
    let is_held = || database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err();
    wait_until("insertion to hold", || {
        is_held() || network.events() > index + 1
    });
}

/// Waits for the end of the coordinator, which must be a success.
fn finish(network: &Network, mut process: Process) {
    let mut ended = None;
    wait_until("end of the run", || {
        ended = process.ended();
        ended.is_some()
    });
    assert!(
        ended.is_some_and(|status| status.success()),
        "{ended:?}: {}",
        network.log("coordinator")
    );
}

/// Waits for something that another process does; it is a defect if it takes for ever.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < TOO_LONG, "no {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A strategy with moments and a lossy encoding with error feedback: whatever is lost or done twice
/// changes the model. Sites reconnect at once, over TCP, where a port without a listener says so.
fn setting() -> Setting {
    let tensors = [
        ("layer.bias".to_owned(), vec![7], vec![0.5; 7]),
        ("layer.weight".to_owned(), vec![300, 7], vec![0.25; 2100]),
    ];
    Setting {
        sites: SITES.map(str::to_owned).to_vec(),
        first: Params::from_tensors(tensors).expect("two tensors"),
        plan: format!(
            "name = \"killed\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             rounds = {ROUNDS}\nlocal = {{ steps = 2, batch_size = 1 }}\n\
             schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n\
             encoding = {{ update = \"int8\" }}\n\
             [strategy]\nname = \"fedadam\"\nserver_learning_rate = 0.1\n\
             beta1 = 0.9\nbeta2 = 0.99\ntau = 0.001\n"
        ),
        transport: "path = \"tcp\"\nheartbeat_seconds = 1\nidle_timeout_seconds = 10\n\
                    reconnect_base_seconds = 0.05\nreconnect_cap_seconds = 0.1\n"
            .to_owned(),
    }
}

const SITES: [&str; 3] = ["east", "north", "west"];
const ROUNDS: u32 = 3;
const AT_ONCE: u64 = 6;
const TOO_LONG: Duration = Duration::from_secs(60);
