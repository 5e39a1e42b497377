//! `fmct-site init` and `fmct-site embed`, as a user runs them.

#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

const MODEL: &str = "[vit]
image = 12
patch = 6
channels = 3
dim = 24
depth = 2
heads = 4
mlp = 48
registers = 2
";

#[test]
fn a_new_model_embeds_a_batch_of_volumes() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path()).success();
    volume(folder.path(), &[2, 3, 12, 12, 12], 0.5);
    embed(folder.path(), &["--attention"]).success();
    let bytes = std::fs::read(folder.path().join("e.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("tokens"), [2, 1 + 2 + 8, 24]);
    assert_eq!(shape("cls"), [2, 24]);
    assert_eq!(shape("attention_distance"), [2, 8]);
    let cls = tensors.tensor("cls").unwrap().data();
    assert_eq!(cls[..96], cls[96..], "equal volumes have equal embeddings");
    assert_eq!(cls[..96], tensors.tensor("tokens").unwrap().data()[..96]);
}

#[test]
fn the_same_seed_writes_the_same_file() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [left, right] = folders.each_ref().map(|folder| {
        init(folder.path()).success();
        std::fs::read(folder.path().join("w.safetensors")).unwrap()
    });
    assert_eq!(left, right);
}

#[test]
fn refusals_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path()).success();
    volume(folder.path(), &[3, 12, 12, 10], 0.5);
    refused(embed(folder.path(), &[]), "found [3, 12, 12, 10]");
    volume(folder.path(), &[3, 12, 12, 12], 1.5);
    refused(
        embed(folder.path(), &[]),
        "key volume holds 1.5 at position 0",
    );
    volume(folder.path(), &[3, 12, 12, 12], 0.5);
    refused(
        embed(folder.path(), &["--heads", "5"]),
        "heads: must divide dim",
    );
    refused(
        embed(folder.path(), &["--device", "tpu"]),
        "expected cpu, cuda or cuda:NUMBER",
    );
    #[cfg(not(feature = "cuda"))]
    refused(
        embed(folder.path(), &["--device", "cuda"]),
        "--features cuda",
    );
}

#[test]
fn a_plan_does_not_start_from_weights_of_other_heads() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    // The size of the preset `tiny`, whose heads are four; no tensor's shape shows them.
    write(
        "model.toml",
        "[vit]\nimage = 24\nchannels = 3\npatch = 6\ndim = 48\ndepth = 3\nheads = 2\nmlp = 192\n\
         qkv_bias = true\nregisters = 0\n",
    );
    write(
        "plan.toml",
        &format!(
            "name = \"test\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             initial = \"{}\"\nrounds = 1\n[cohort]\nrule = \"full\"\nsites = [\"a\"]\n\
             [local]\nsteps = 1\nbatch_size = 2\n[schedule]\nlearning_rate = {{ peak = 1e-3 }}\n",
            "0".repeat(64)
        ),
    );
    let weights = ["init", "--seed", "7", "--out", "w.safetensors", "--model"];
    command(folder.path(), &[&weights[..], &["model.toml"]].concat()).success();
    let first = ["init", "--plan", "plan.toml", "--out", "first.safetensors"];
    let from = [&first[..], &["--from", "w.safetensors"]].concat();
    refused(
        command(folder.path(), &from),
        "model.heads: expected 4, found 2",
    );
    assert!(!folder.path().join("first.safetensors").exists());
}

fn init(folder: &Path) -> Assert {
    std::fs::write(folder.join("model.toml"), MODEL).unwrap();
    command(
        folder,
        &[
            "init",
            "--model",
            "model.toml",
            "--seed",
            "7",
            "--out",
            "w.safetensors",
        ],
    )
}

fn embed(folder: &Path, more: &[&str]) -> Assert {
    let mut args = vec![
        "embed",
        "--weights",
        "w.safetensors",
        "--input",
        "v.safetensors",
        "--out",
        "e.safetensors",
    ];
    args.extend(more);
    command(folder, &args)
}

fn command(folder: &Path, args: &[&str]) -> Assert {
    Command::new(env!("CARGO_BIN_EXE_fmct-site"))
        .current_dir(folder)
        .args(args)
        .assert()
}

fn refused(assert: Assert, message: &str) {
    let output = assert.failure().get_output().clone();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(message), "{text}");
}

fn volume(folder: &Path, shape: &[usize], value: f32) {
    let bytes: Vec<u8> = std::iter::repeat_n(value.to_le_bytes(), shape.iter().product())
        .flatten()
        .collect();
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
    serialize_to_file([("volume", view)], None, &folder.join("v.safetensors")).unwrap();
}
