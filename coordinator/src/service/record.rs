//! The record of a round: what the coordinator signs, and a regulator checks.

use std::collections::BTreeMap;

use protocol::{Digest, RunId};
use serde::Serialize;

use crate::run::{Checkpoint, RoundRecord};

/// What a signature over a round record is for.
pub(super) const RECORD_CONTEXT: &str = "round record";

#[derive(Serialize)]
struct Record<'a> {
    run: &'a RunId,
    plan: Digest,
    base: Checkpoint,
    checkpoint: Checkpoint,
    updates: BTreeMap<&'a str, [Digest; 3]>,
}

/// The bytes of a round's record: run, plan, the model before, the model after, and for each site
/// its update, manifest and receipt, as JSON with keys in order.
pub fn record(run: &RunId, plan: Digest, round: &RoundRecord) -> Vec<u8> {
    let updates = round
        .updates
        .iter()
        .map(|(site, update)| {
            (
                site.as_str(),
                [update.blob, update.manifest, update.receipt],
            )
        })
        .collect();
    let record = Record {
        run,
        plan,
        base: round.base,
        checkpoint: round.checkpoint,
        updates,
    };
    serde_json::to_vec(&record).expect("a record is plain data with text keys")
}
