//! Killing any process of the federated run, at any moment, changes nothing in the final model.
//!
//! `FMCT_KILLS=20 cargo test --release -p fmct-demo kill -- --nocapture` kills more often.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use protocol::Digest;
use site_client::train::data::stream;

use crate::process::{children, demo};

/// Runs the federated part; kills one of its processes after some time, if told to. Returns the
/// model, how long it took, and who was killed before the end.
fn model(
    dir: &Path,
    options: &[&str],
    kill: Option<(Duration, u64)>,
) -> (Digest, Duration, Vec<String>) {
    let started = Instant::now();
    let mut command = demo(dir);
    command.args(["--model-only", "--sites=3", "--rounds=2", "--steps=4"]);
    command.args(options);
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(running.stdout.take().unwrap());
    let lines = thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
    if let Some((after, draw)) = kill {
        thread::sleep(after);
        let mut processes = children(running.id());
        processes.sort_unstable();
        if !processes.is_empty() {
            let victim = processes[draw as usize % processes.len()];
            // It may have ended by itself since it was listed.
            drop(
                std::process::Command::new("kill")
                    .args(["-9", &victim.to_string()])
                    .status(),
            );
        }
    }
    assert!(running.wait().unwrap().success());
    let lines = lines.join().unwrap();
    let struck = lines.iter().filter_map(|line| {
        let who = line.strip_suffix(" was killed, and starts again")?;
        Some(who.rsplit_once("  ")?.1.to_owned())
    });
    let struck = struck.collect();
    let model = Digest::of(&fs::read(dir.join("federated.safetensors")).unwrap());
    (model, started.elapsed(), struck)
}

#[test]
fn a_kill_at_any_moment_changes_nothing_in_the_final_model() {
    let kills = std::env::var("FMCT_KILLS").map_or(3, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (expected, usual, struck) = model(&folder.path().join("undisturbed"), &[], None);
    assert!(struck.is_empty(), "{struck:?}");
    let mut strikes = 0;
    for kill in 0..kills {
        let draw = |purpose| stream(11, purpose, &[kill]);
        let moment = usual.mul_f64((draw("moment") % 1000) as f64 / 1000.0);
        let (found, took, struck) = model(
            &folder.path().join(kill.to_string()),
            &[],
            Some((moment, draw("victim"))),
        );
        println!("kill {kill} after {moment:.1?}: took {took:.1?}, struck: {struck:?}");
        assert_eq!(found, expected, "kill {kill} after {moment:?}");
        strikes += u32::from(!struck.is_empty());
    }
    println!("{strikes} of {kills} kills struck a process that had work left");
    assert!(strikes > 0, "nothing was killed, so nothing was shown");
    let (found, took, struck) = model(&folder.path().join("kill-one"), &["--kill-one"], None);
    println!("--kill-one: took {took:.1?}, struck: {struck:?}");
    assert_eq!(struck, ["the coordinator", "langone"]);
    assert_eq!(found, expected, "--kill-one");
}
