//! Small phantom hospitals, plans for them, and comparisons of parameters.

use std::sync::Arc;

use burn::tensor::Device;
use core_model::phantom::Site;
use core_model::state::StateDict;
use fmct_demo::{Member, Rehearsal};
use protocol::params::Params;
use protocol::plan::Plan;
use site_client::evaluate::Part;
use site_client::federation::{LocalTraining, first_checkpoint};
use site_client::params::to_state;
use site_client::train::data::{Labelled, Memory, Phantoms};

/// The first patients of a phantom hospital, all in the training part.
pub(crate) fn hospital(name: &str, patients: u64) -> Labelled {
    let profile = Site::builtin(name).unwrap().profile().clone();
    let site = Site::new(profile.with_prevalence_floor(0.3)).unwrap();
    let set = Labelled::phantoms(Phantoms::new(site, 3, patients, 24, 3));
    set.with_parts(|_, _| Part::Train)
        .reading(|source| Arc::new(Memory::new(source, 64)))
}

/// A plan of preset `tiny` for `sites`, with `rest` after what every plan has.
pub(crate) fn plan(objective: &str, rounds: u32, sites: &[&str], rest: &str) -> Plan {
    let initial = "0".repeat(64);
    let text = format!(
        "name = \"test\"\nobjective = \"{objective}\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
         initial = \"{initial}\"\nrounds = {rounds}\nseed = 5\n{rest}\n\
         [cohort]\nrule = \"full\"\nsites = {sites:?}\n"
    );
    Plan::parse(text.as_bytes()).unwrap()
}

/// The first checkpoint of a plan.
pub(crate) fn first(plan: &Plan) -> Params {
    first_checkpoint(plan.config(), None, &Device::flex()).unwrap()
}

/// A site that trains on `cohort`.
pub(crate) fn member(site: &str, cohort: Labelled) -> Member {
    Member {
        site: site.parse().unwrap(),
        trainer: Box::new(LocalTraining::new(cohort, Device::flex())),
    }
}

/// A rehearsal from the plan's first checkpoint.
pub(crate) fn rehearse(plan: &Plan, members: Vec<Member>) -> (Rehearsal, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let rehearsal = Rehearsal::new(plan.clone(), &first(plan), members, folder.path()).unwrap();
    (rehearsal, folder)
}

/// The global model without DINO's center.
pub(crate) fn weights(rehearsal: &Rehearsal) -> StateDict {
    let mut state = to_state(&rehearsal.model().unwrap());
    state.remove(site_client::federation::CENTER);
    state
}

/// The largest difference between two sets of parameters of the same names.
pub(crate) fn distance(one: &StateDict, other: &StateDict) -> f64 {
    assert!(one.keys().eq(other.keys()));
    let values = |state: &StateDict| -> Vec<f64> {
        let all = state.values().flat_map(|tensor| tensor.values.clone());
        all.map(f64::from).collect()
    };
    let pairs = values(one).into_iter().zip(values(other));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
