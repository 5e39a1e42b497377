//! What the demo prints, writes, sends, and leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coordinator::journal::Journal;
use coordinator::run::Event;
use protocol::bounded::{List, Text};
use protocol::message::{Metrics, Receipt, TaskMetrics};
use protocol::{Digest, Message, Round, RunId, Signed, Version, codec};
use site_client::federation::{EgressLog, Kind};

/// The demo, with everything it makes in `dir`.
pub(crate) fn demo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fmct-demo"));
    command.arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

/// Processes whose parent is `parent`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold blanks.
        let after = stat.rsplit_once(')')?.1;
        after.split_whitespace().nth(1)?.parse().ok()
    };
    pids()
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes that were told of a folder.
fn processes_of(dir: &Path) -> Vec<u32> {
    let dir = dir.display().to_string();
    let mentions = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&dir)
    };
    pids().filter(mentions).collect()
}

#[test]
fn the_demo_shows_its_tables_what_left_and_where_the_report_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let output = demo(&dir)
        .args(["--sites=2", "--rounds=2", "--steps=2", "--epochs=1"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");

    let arms = ["scratch", "tuned scratch", "single-site", "federated"];
    let heads: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("AUC "))
        .collect();
    assert_eq!(heads.len(), 2, "internal and external:\n{text}");
    for head in heads {
        assert!(arms.iter().all(|arm| head.contains(arm)), "{head}");
    }
    for disease in ["ICH", "SDH", "EDH", "IPH", "IVH", "SAH"] {
        let rows = text
            .lines()
            .filter(|line| line.starts_with(&format!("{disease} ")));
        // Internal, external, and what the coordinator was told.
        assert_eq!(rows.count(), 3, "{disease}:\n{text}");
    }
    assert!(text.contains("fine-tuned at × tested at"), "{text}");
    assert!(
        text.contains("One seed (7)"),
        "the protocol stands under the tables"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 110),
        "{text}"
    );

    for site in ["langone", "longisland"] {
        let start = format!("{site} ");
        let row = text
            .lines()
            .find(|line| line.starts_with(&start) && line.contains("weight updates"))
            .unwrap_or_else(|| panic!("{site}: no row of what left:\n{text}"));
        assert!(row.contains("2 weight updates, 1 evaluations"), "{row}");
        let number = |after: &str| -> u64 {
            let rest = row.split_once(after).unwrap().1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        let (logged, crossed) = (number("evaluations: "), number("wire "));
        // Encryption, headers, acknowledgments, hello and progress; nothing else goes out.
        assert!(
            logged < crossed && crossed < logged + logged / 8 + 150_000,
            "{row}"
        );
    }

    for site in ["langone", "longisland"] {
        assert_eq!(noted(&dir, site), journalled(&dir, site), "{site}");
    }

    let page = dir.join("report").join("report.html");
    let told = text
        .lines()
        .find_map(|line| line.strip_prefix("report: "))
        .unwrap();
    assert_eq!(Path::new(told), page);
    assert!(page.is_file());
    opens_in_chromium(&page);
    let card = fs::read_to_string(dir.join("federated.card.md")).unwrap();
    for part in [
        "Not for clinical use",
        "consortium | demo",
        "hospital 1",
        "2 of 2",
        "### Validation patients",
        "mean of the sites' AUCs",
        "There is no figure on test patients",
    ] {
        assert!(card.contains(part), "{part}:\n{card}");
    }
    assert!(
        !card.contains("langone"),
        "nobody has agreed to be named:\n{card}"
    );
    assert!(processes_of(&dir).is_empty(), "a process is left");
}

/// What left a hospital by its own log: kind, round, digest and bytes.
fn noted(dir: &Path, site: &str) -> Vec<(Kind, Round, Digest, u64)> {
    let log = EgressLog::new(&dir.join("sites").join(site));
    let rows = log.rows().unwrap().into_iter();
    rows.map(|row| (row.kind, row.round, row.digest, row.bytes))
        .collect()
}

/// What came from it by the coordinator's journal: each update as it was receipted, each evaluation
/// as the message that the journalled report is of.
fn journalled(dir: &Path, site: &str) -> Vec<(Kind, Round, Digest, u64)> {
    let journal = Journal::open_shared(&dir.join("coordinator")).unwrap();
    let run: RunId = "demo".parse().unwrap();
    let (mut rows, mut model) = (Vec::new(), None);
    for entry in journal.entries(&run).unwrap() {
        match entry.event(&run).unwrap() {
            Event::Staged { site: from, update } if from.as_str() == site => {
                let receipt = journal.document(update.receipt).unwrap().unwrap();
                let receipt = Signed::<Receipt>::from_bytes(&receipt).unwrap();
                let receipt = receipt.open(|_, _, _| true).unwrap();
                let staged = (update.blob, update.bytes);
                assert_eq!((receipt.blob.digest, receipt.blob.len), staged);
                rows.push((Kind::Update, update.round, staged.0, staged.1));
            }
            Event::Aggregated { checkpoint, .. } => model = Some(checkpoint.model),
            Event::Evaluated {
                site: from,
                round,
                report,
            } if from.as_str() == site => {
                let tasks = report.tasks.into_iter().map(|task| TaskMetrics {
                    task: Text::lossy(&task.task),
                    positive: List::new(task.positive).unwrap(),
                    negative: List::new(task.negative).unwrap(),
                    auc: task.auc.map(Into::into),
                });
                let message = Message::from(Metrics {
                    run: run.clone(),
                    round,
                    model: model.unwrap(),
                    scalars: List::default(),
                    tasks: List::new(tasks.collect()).unwrap(),
                });
                let bytes = codec::encode(&message, Version::NEWEST).unwrap();
                let length = bytes.len() as u64;
                rows.push((Kind::Evaluation, round, Digest::of(&bytes), length));
            }
            _ => {}
        }
    }
    rows
}

/// Loads a page in headless Chromium, where there is one; a script's error fails.
fn opens_in_chromium(page: &Path) {
    let program = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let Some(program) = program
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
    else {
        println!("skipped: no Chromium to open the report in");
        return;
    };
    let output = Command::new(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success());
    let (dom, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(dom.contains("</html>"), "{dom}");
    let said: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn an_interrupted_demo_leaves_no_process() {
    // Ctrl-C is the same to it as SIGTERM, but a shell lets its background jobs ignore SIGINT.
    for signal in ["-TERM", "-KILL"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("demo");
        let mut running = demo(&dir)
            .args(["--sites=2", "--rounds=200"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Coordinator and both hospitals are there.
        while children(running.id()).len() < 3 {
            assert!(running.try_wait().unwrap().is_none(), "the demo ended");
            std::thread::yield_now();
        }
        let told = Command::new("kill")
            .args([signal, &running.id().to_string()])
            .status();
        assert!(told.unwrap().success());
        running.wait().unwrap();
        // They end by themselves when the demo is gone; a process that stays hangs the test.
        while !processes_of(&dir).is_empty() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_folder_with_a_consortium_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("coordinator")).unwrap();
    let output = demo(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("holds a consortium already"), "{text}");
}
