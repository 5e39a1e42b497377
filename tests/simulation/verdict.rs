//! What must hold when a world is over.

use coordinator::run::{Phase, RoundRecord};
use coordinator::service::{replay, verify};
use protocol::Digest;

use super::hub::Hub;
use super::scene::{SITES, Scene, place};
use super::site::{Fate, Site};

/// What must hold: the books of coordinator and sites agree, each contribution is in the final
/// model as often as they say, and anybody can compute and verify it again.
pub(super) fn verdict(
    scene: &Scene,
    hub: &mut Hub,
    sites: &[Site],
    keep_rounds: Option<u32>,
) -> Result<Digest, String> {
    let process = hub.process.as_ref().ok_or("no coordinator")?;
    let run = process.coordinator.run().ok_or("no run")?;
    if run.phase() != &Phase::Finished {
        return Err(format!("{} is not the end", run.phase()));
    }
    let (history, model) = (run.history().to_vec(), run.checkpoint().model);
    let bytes = std::fs::read(process.coordinator.blobs().path(model))
        .map_err(|error| format!("final model: {error}"))?;
    check_measurements(&bytes, &history)?;
    for (index, site) in sites.iter().enumerate() {
        check_books(index, site, &history)?;
    }
    hub.process = None;
    let directory = hub.directory();
    let verified = verify(directory, &scene.trust, &scene.run);
    let verified = verified.map_err(|error| format!("verify: {error}"))?;
    let counted: usize = history.iter().map(|record| record.updates.len()).sum();
    if (verified.records, verified.receipts) != (history.len() as u64, counted as u64) {
        return Err(format!("verify: {verified:?} for {counted} updates"));
    }
    if keep_rounds.is_none() {
        replay(directory, &scene.run, |_, _| {}).map_err(|error| format!("replay: {error}"))?;
    }
    Ok(model)
}

/// Each site's unique measurement of each round is in the final model with the share it had.
fn check_measurements(model: &[u8], history: &[RoundRecord]) -> Result<(), String> {
    let values: Vec<f32> = model
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    for record in history {
        let share = (1.0 / record.updates.len() as f64) as f32;
        for (site, name) in SITES.iter().enumerate() {
            let counted = record.updates.keys().any(|of| of.as_str() == *name);
            let expected = if counted { share } else { 0.0 };
            let found = values[place(site, record.checkpoint.round.0)];
            if found != expected {
                let round = record.checkpoint.round;
                return Err(format!(
                    "{name}, round {round}: measured {found}, expected {expected}"
                ));
            }
        }
    }
    Ok(())
}

/// A site believes that its update arrived exactly if it was counted.
fn check_books(index: usize, site: &Site, history: &[RoundRecord]) -> Result<(), String> {
    for ((round, blob), fate) in &site.fates {
        let counted = history.iter().any(|record| {
            let update = record.updates.get(&site.id);
            update.is_some_and(|update| (update.round, update.blob) == (*round, *blob))
        });
        if counted != (*fate == Fate::Delivered) {
            let name = SITES[index];
            return Err(format!(
                "{name}, round {round}: counted {counted}, but {fate:?}"
            ));
        }
    }
    let known = history
        .iter()
        .filter(|record| record.updates.contains_key(&site.id));
    let delivered = site.fates.values().filter(|fate| **fate == Fate::Delivered);
    if known.count() != delivered.count() {
        return Err(format!("{}: an update that is not its own", SITES[index]));
    }
    Ok(())
}
