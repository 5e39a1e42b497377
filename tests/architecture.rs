//! The arrows between crates are those drawn in docs/ARCHITECTURE.md, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom outside tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("certs", &["protocol"]),
    ("coordinator", &["certs", "protocol", "transport"]),
    ("core-model", &["kernels"]),
    (
        "fmct-demo",
        &[
            "certs",
            "coordinator",
            "core-model",
            "protocol",
            "site-client",
            "transport",
        ],
    ),
    ("fmct-tests", &[]),
    ("kernels", &[]),
    ("protocol", &[]),
    (
        "site-client",
        &["certs", "core-model", "protocol", "transport"],
    ),
    ("transport", &["certs", "protocol"]),
];

/// Crates that may not appear among the dependencies of a package, however well meant.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("certs", &["burn", "tokio", "quinn"]),
    ("coordinator", &["burn", "burn-store", "bincode"]),
    ("core-model", &["burn-flex", "tokio", "nifti", "bincode"]),
    ("kernels", &["tokio"]),
    ("protocol", &["burn", "tokio", "quinn", "rustls", "jiff"]),
    ("site-client", &["bincode"]),
    ("transport", &["burn", "bincode"]),
];

/// Normal (not dev, not build) dependencies of each workspace member.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version=1",
            "--manifest-path",
            manifest,
        ])
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let name = |value: &Value| {
        value["name"]
            .as_str()
            .expect("a package has a name")
            .to_owned()
    };
    metadata["packages"]
        .as_array()
        .expect("metadata lists packages")
        .iter()
        .map(|package| {
            let normal = package["dependencies"]
                .as_array()
                .expect("a package lists dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(name)
                .collect();
            (name(package), normal)
        })
        .collect()
}

#[test]
fn arrows_between_crates_are_those_of_the_architecture() {
    let packages = dependencies();
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        ours,
        packages.keys().map(String::as_str).collect::<BTreeSet<_>>()
    );
    for (package, allowed) in ARROWS {
        for dependency in packages[*package]
            .iter()
            .filter(|name| ours.contains(name.as_str()))
        {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{package} may not depend on {dependency}"
            );
        }
    }
}

#[test]
fn pure_crates_name_no_backend_runtime_or_unfenced_codec() {
    let packages = dependencies();
    for (package, forbidden) in FORBIDDEN {
        for name in *forbidden {
            assert!(
                !packages[*package].contains(*name),
                "{package} may not depend on {name}"
            );
        }
    }
}
