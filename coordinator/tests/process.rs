//! The real program: what it refuses to touch, how a served run is stopped, how it is drained.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certs::AuthorityHome;
use coordinator::blobs::Blobs;
use coordinator::journal::Journal;
use coordinator::run::Event;
use coordinator::service::{Initial, blobs_path, launch};
use protocol::plan::Plan;
use protocol::{Params, RunId, Timestamp};

/// Longest a step of the other process is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

fn program(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fmct-coordinator"));
    command.args(arguments).arg("--dir").arg(directory);
    command.stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn commands_that_look_refuse_a_directory_without_a_journal_and_leave_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (wrong, out) = (folder.path().join("wrong"), folder.path().join("out"));
    fs::create_dir(&wrong).unwrap();
    let journal = wrong.join("journal.sqlite");
    let expected = format!("journal: there is none at {}", journal.display());
    let out = out.to_str().unwrap();
    for arguments in [
        vec!["backup", out],
        vec!["restore", "--bucket", "s3://bucket/prefix"],
        vec!["matrix"],
        vec!["replay", "run-1"],
        vec!["stop", "run-1", "--yes"],
        vec!["export", "run-1", "--transcript", out],
    ] {
        let output = program(&wrong, &arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output).contains(&expected), "{}", text(&output));
        assert_eq!(fs::read_dir(&wrong).unwrap().count(), 0, "{arguments:?}");
        assert!(!Path::new(out).exists(), "{arguments:?}");
    }
}

#[test]
fn a_served_run_is_stopped_from_beside_and_sigterm_drains_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("coordinator");
    let run = launched(&directory);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut serving = program(&directory, &serve)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines();
    let page = lines
        .find_map(|line| Some(line.unwrap().strip_prefix("status: http://")?.to_owned()))
        .unwrap();
    let mut shown = watch(page.trim_end_matches('/'));
    see(&mut shown, "\"phase\":\"gathering\"");

    let asked = program(&directory, &["stop", "ended-1"]).output().unwrap();
    assert!(!asked.status.success(), "nobody said yes");
    assert!(text(&asked).ends_with("error: run ended-1: not stopped\n"));
    let stop = ["stop", "ended-1", "--yes"];
    let stopped = program(&directory, &stop).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped));
    see(&mut shown, "\"phase\":\"finished\"");

    let signal = format!("kill -TERM {}", serving.id());
    let sent = Command::new("sh").args(["-c", &signal]).status().unwrap();
    assert!(sent.success());
    assert_eq!(serving.wait().unwrap().code(), Some(0), "drained");
    // Whole, and free to be held by the next.
    let journal = Journal::open(&directory).unwrap();
    let entries = journal.entries(&run).unwrap();
    let last = entries.last().unwrap().event(&run).unwrap();
    assert_eq!(last, Event::Stopped);
    drop(journal);
    let again = program(&directory, &stop).output().unwrap();
    assert!(text(&again).contains("run ended-1 was over already"));
}

/// A consortium with a run launched that waits for a site that never comes.
fn launched(directory: &Path) -> RunId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Timestamp(u64::try_from(now.as_millis()).unwrap());
    let home = AuthorityHome::new(directory);
    let (consortium, own) = ("ended".parse().unwrap(), "coordinator".parse().unwrap());
    home.found(consortium, &own, None, now).unwrap();
    let params = Params::from_tensors([("w".to_owned(), vec![4], vec![1.0; 4])]).unwrap();
    let first = directory.join("first.safetensors");
    fs::write(&first, params.to_safetensors()).unwrap();
    let initial = Initial::open(&first).unwrap();
    let plan = format!(
        "name = \"ended\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
         initial = \"{}\"\nrounds = 2\nlocal = {{ steps = 1, batch_size = 1 }}\n\
         schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n\
         cohort = {{ rule = \"full\", sites = [\"gone\"] }}\n",
        initial.digest()
    );
    let plan = Plan::parse(plan.as_bytes()).unwrap();
    let run: RunId = "ended-1".parse().unwrap();
    let mut journal = Journal::open_shared(directory).unwrap();
    let blobs = Blobs::open_shared(blobs_path(directory)).unwrap();
    let (identity, _) = home.home().open(None).unwrap();
    launch(&mut journal, &blobs, &identity, &run, &plan, &initial, now).unwrap();
    run
}

/// The live page's events.
fn watch(address: &str) -> impl BufRead {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: coordinator\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// Reads until there is a line with the expected words.
fn see(events: &mut impl BufRead, expected: &str) {
    let mut lines = events.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(expected)), "{expected}");
}
