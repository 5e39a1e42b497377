//! The layouts weights come in, brought to one: a transformer's own keys.

use core_model::state::StateDict;

/// Which network of a training checkpoint is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Section {
    /// The one its makers evaluate: the teacher of this project's checkpoints, the student of the
    /// released code's.
    #[default]
    Evaluated,
    /// The network that was trained.
    Student,
    /// Its moving average.
    Teacher,
}

/// The tensors of a transformer.
#[derive(Debug)]
pub struct Backbone {
    /// By the keys of the released layout, without any prefix.
    pub tensors: StateDict,
    /// Keys of the file that belong to no transformer.
    pub ignored: Vec<String>,
}

/// Finds the transformer in the tensors of a file.
///
/// | layout | keys |
/// |---|---|
/// | flat state dict | `blocks.0.…`, or after any of `module.`, `backbone.`, `_orig_mod.` |
/// | released DINO or MAE checkpoint | `state_dict.…`, `momentum_model_state_dict.…` |
/// | this project's checkpoint | `student/…` or `model/…`, `teacher/…` |
///
/// Heads, decoders and whatever is neither are left out.
pub fn backbone(tensors: StateDict, section: Section) -> Backbone {
    let prefix = prefix(&tensors, section);
    let mut backbone = Backbone {
        tensors: StateDict::new(),
        ignored: Vec::new(),
    };
    for (key, tensor) in tensors {
        let name = key
            .strip_prefix(prefix)
            .map(unwrapped)
            .filter(|name| !is_other(name));
        match name.map(str::to_owned) {
            Some(name) => drop(backbone.tensors.insert(name, tensor)),
            None => backbone.ignored.push(key),
        }
    }
    backbone
}

/// The prefix of the section, or none for a flat state dict.
fn prefix(tensors: &StateDict, section: Section) -> &'static str {
    let candidates: &[&str] = match section {
        Section::Evaluated => &["teacher/", "state_dict.", "model/", "student/"],
        Section::Student => &["state_dict.", "model/", "student/"],
        Section::Teacher => &["momentum_model_state_dict.", "teacher/"],
    };
    let present = |prefix: &&&str| tensors.keys().any(|key| key.starts_with(**prefix));
    candidates.iter().find(present).copied().unwrap_or_default()
}

/// A key without the wrappers of distributed and compiled modules.
fn unwrapped(mut key: &str) -> &str {
    const WRAPPERS: [&str; 3] = ["module.", "backbone.", "_orig_mod."];
    while let Some(rest) = WRAPPERS
        .iter()
        .find_map(|wrapper| key.strip_prefix(wrapper))
    {
        key = rest;
    }
    key
}

/// Whether a key belongs to a head, a decoder, or DINO's loss.
fn is_other(key: &str) -> bool {
    [
        "decoder_",
        "mask_token",
        "head.",
        "heads.",
        "classifier.",
        "center",
    ]
    .iter()
    .any(|other| key.starts_with(other))
}
