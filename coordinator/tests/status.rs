//! The `status` command against a status page that is being served: once, as JSON, and live.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use coordinator::service::Overview;
use coordinator::web;
use protocol::message::Doing;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

#[path = "page/overview.rs"]
mod overview;

use overview::overview;

/// A coordinator's directory, as `status` sees it.
struct Served {
    folder: TempDir,
    show: watch::Sender<Arc<Overview>>,
    _runtime: Runtime,
}

impl Served {
    fn start(first: Overview) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        fs::write(folder.path().join("status-address"), address).unwrap();
        let token = folder.path().join("token");
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        let (show, shown) = watch::channel(Arc::new(first));
        runtime.spawn(web::serve(
            listener,
            shown,
            Some(TOKEN.to_owned()),
            std::future::pending(),
        ));
        Self {
            folder,
            show,
            _runtime: runtime,
        }
    }

    fn status(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fmct-coordinator"));
        command.arg("status").arg("--dir").arg(self.folder.path());
        command.args(arguments);
        command
    }

    fn token(&self) -> String {
        self.folder.path().join("token").display().to_string()
    }
}

#[test]
fn status_says_who_does_what_how_far_and_who_is_awaited() {
    let mut shown = overview(2, 3);
    let north = shown.run.as_mut().unwrap().sites.get_mut("north").unwrap();
    north.doing = Doing::Uploading;
    (north.done, north.total) = (12_000_000, 344_000_000);
    let served = Served::start(shown);
    let output = served
        .status(&["--http-token-file", &served.token()])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    for expected in [
        "run headct: training, round 2 of 5, step 40, fedavg (quorum 1)",
        "harbor               away              4 s training 3 of 10",
        "north                connected         4 s uploading 12.0 of 344.0 MB",
        "its update",
        "refused in round 1: storage is full",
        "declined the plan: site policy: plan has 5 rounds, policy max_rounds is 3",
        "north                reported nothing of EDH, SAH",
        "harbor               not evaluated: failed: no patients",
        "error: <b>disk failed</b>",
    ] {
        assert!(text.contains(expected), "{expected}: not in\n{text}");
    }
    let output = served
        .status(&["--json", "--http-token-file", &served.token()])
        .output();
    let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(json["run"]["sites"]["north"]["done"], 12_000_000);
    let declined = &json["run"]["sites"]["harbor"]["declined"];
    assert!(declined.as_str().unwrap().starts_with("site policy: "));
}

#[test]
fn status_without_the_token_says_so_and_fails() {
    let served = Served::start(overview(2, 3));
    let output = served.status(&[]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("401"), "{text}");
}

#[test]
fn status_refuses_a_token_that_others_can_read() {
    let served = Served::start(overview(2, 3));
    fs::set_permissions(served.token(), Permissions::from_mode(0o644)).unwrap();
    let output = served
        .status(&["--http-token-file", &served.token()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("mode 0644, expected 0600") && !text.contains(TOKEN),
        "{text}"
    );
}

#[test]
fn a_watched_status_follows_the_run_until_it_is_ended() {
    let served = Served::start(overview(2, 3));
    let mut watching = served
        .status(&["--watch", "--http-token-file", &served.token()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = BufReader::new(watching.stdout.take().unwrap());
    let mut errors = BufReader::new(watching.stderr.take().unwrap());
    see(&mut screen, "round 2 of 5");
    served.show.send_replace(Arc::new(overview(3, 7)));
    see(&mut screen, "round 3 of 5");
    see(&mut screen, "7 of 10");
    // Nothing to look at is no reason to stop looking: the coordinator may be starting again.
    let address = served.folder.path().join("status-address");
    let hidden = served.folder.path().join("hidden");
    fs::rename(&address, &hidden).unwrap();
    see(&mut errors, "was `serve` ever started here?");
    served.show.send_replace(Arc::new(overview(4, 1)));
    fs::rename(&hidden, &address).unwrap();
    see(&mut screen, "round 4 of 5");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

/// Reads until there is a line with the expected words.
fn see(output: &mut impl BufRead, expected: &str) {
    let mut lines = output.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(expected)), "{expected}");
}

const TOKEN: &str = "a token of the test";
