//! `fmct-coordinator init | approve | revoke | renew | list | show`, as an operator types them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use certs::{Approval, Home, Pin};
use protocol::Timestamp;

fn coordinator(dir: &Path, args: &[&str], typed: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fmct-coordinator"))
        .args(args)
        .env("FMCT_COORDINATOR_DIR", dir)
        .env_remove("FMCT_PASSPHRASE_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not ask may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}

fn done(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert!(
        !output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp(since.as_millis().try_into().unwrap())
}

#[test]
fn consortium_is_founded_joined_renewed_and_left() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("coordinator");
    let init = ["init", "--consortium", "headct", "--out", path(&dir)];
    let founded = done(&coordinator(&dir, &init, ""));
    let again = refused(&coordinator(&dir, &init, ""));
    assert!(again.contains("never overwritten"), "{again}");

    // The site takes the words that were printed, as it would over the telephone.
    let words = founded
        .lines()
        .find_map(|line| line.strip_prefix("in words     "))
        .unwrap();
    let site = Home::new(temp.path().join("site"));
    let request = site
        .enroll(
            &"mgh".parse().unwrap(),
            &words.parse::<Pin>().unwrap(),
            None,
        )
        .unwrap();

    let file = site.request_path();
    let approve = ["approve", path(&file)];
    let asked = coordinator(&dir, &approve, "n\n");
    assert!(String::from_utf8_lossy(&asked.stdout).contains(&request.key().fingerprint().words()));
    assert!(refused(&asked).contains("not approved"));
    assert!(refused(&coordinator(&dir, &approve, "")).contains("not approved"));
    assert!(done(&coordinator(&dir, &approve, "y\n")).contains("approved"));
    assert!(
        refused(&coordinator(&dir, &[&approve[..], &["--yes"]].concat(), ""))
            .contains("active already")
    );

    let approval = dir.join("approvals/mgh.fmct");
    site.accept(
        &Approval::read(&fs::read(&approval).unwrap()).unwrap(),
        now(),
    )
    .unwrap();
    let listed = done(&coordinator(&dir, &["list"], ""));
    assert!(
        listed.contains("version 3") && listed.contains("mgh"),
        "{listed}"
    );

    for file in [
        file,
        approval,
        dir.join("certificate.pem"),
        dir.join("consortium.fmct"),
    ] {
        let shown = done(&coordinator(&dir, &["show", path(&file)], ""));
        assert!(
            shown.contains("mgh") || shown.contains("coordinator coordinator"),
            "{shown}"
        );
    }
    let shown = refused(&coordinator(
        &dir,
        &["show", path(&dir.join("root-key.pem"))],
        "",
    ));
    assert!(!shown.contains("PRIVATE"), "{shown}");

    done(&coordinator(&dir, &["renew", "mgh"], ""));
    assert!(done(&coordinator(&dir, &["revoke", "mgh"], "")).contains("version 5"));
    assert!(done(&coordinator(&dir, &["list"], "")).contains("revoked"));
    assert!(refused(&coordinator(&dir, &["renew", "mgh"], "")).contains("not an active member"));
}
