//! What must hold when a world is over.

use coordinator::run::{Phase, RoundRecord};
use coordinator::service::{replay, verify};
use protocol::{Digest, Round};

use super::hub::{Heeded, Hub};
use super::operator::Operator;
use super::scene::{LAST, SITES, Scene, place};
use super::site::{Fate, Site};

/// What must hold in a world with this scene and these acts.
pub(super) struct Verdict {
    pub(super) scene: &'static Scene,
    pub(super) operator: Operator,
    pub(super) keep_rounds: Option<u32>,
}

impl Verdict {
    /// The books of coordinator and sites agree, each contribution is in the final model as often as
    /// they say, and anybody can verify it and compute it again, as far back as rounds are kept.
    pub(super) fn of(&self, hub: &mut Hub, sites: &[Site]) -> Result<Digest, String> {
        let process = hub.process.as_ref().ok_or("no coordinator")?;
        let run = process.coordinator.run().ok_or("no run")?;
        if run.phase() != &Phase::Finished {
            return Err(format!("{} is not the end", run.phase()));
        }
        let (history, model) = (run.history().to_vec(), run.checkpoint().model);
        let bytes = std::fs::read(process.coordinator.blobs().path(model))
            .map_err(|error| format!("final model: {error}"))?;
        check_measurements(&bytes, &history)?;
        check_heeded(hub.heeded, &history)?;
        for (index, site) in sites.iter().enumerate() {
            check_books(site, &history, self.lenience(index, &history))?;
        }
        hub.process = None;
        let verified = verify(hub.directory(), &hub.trust, &self.scene.run);
        let verified = verified.map_err(|error| format!("verify: {error}"))?;
        let counted: usize = history.iter().map(|record| record.updates.len()).sum();
        let (records, counted) = (history.len() as u64, counted as u64);
        let more = self.operator.revokes.is_some() || self.operator.stops.is_some();
        let receipts_hold = verified.receipts == counted || more && verified.receipts > counted;
        if verified.records != records || !receipts_hold {
            return Err(format!("verify: {verified:?} for {counted} updates"));
        }
        let replayed = replay(hub.directory(), &self.scene.run, |_, _| {});
        let replayed = replayed.map_err(|error| format!("replay: {error}"))?;
        let keep = self.keep_rounds.unwrap_or(u32::MAX);
        let most = (records as u32).saturating_sub(keep);
        let all = replayed.rounds + replayed.collected == records as u32;
        if !all || replayed.collected > most {
            return Err(format!("replay: {replayed:?} of {records} rounds"));
        }
        Ok(model)
    }

    /// Which receipts of a site may be for an update that is in no model.
    fn lenience(&self, site: usize, history: &[RoundRecord]) -> Lenience {
        if site == LAST && self.operator.revokes.is_some() {
            Lenience::Revoked
        } else if self.operator.stops.is_some() {
            Lenience::Stopped(Round(history.len() as u32 + 1))
        } else {
            Lenience::None
        }
    }
}

/// What a site may believe that the coordinator's books do not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lenience {
    None,
    /// It is told nothing any more.
    Revoked,
    /// It may hold a receipt of the round in which the run was stopped.
    Stopped(Round),
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

/// Once the coordinator has heeded the operator, nothing more of a revoked site counts, and a stopped
/// run has no more rounds.
fn check_heeded(heeded: Heeded, history: &[RoundRecord]) -> Result<(), String> {
    for record in history {
        let round = record.checkpoint.round;
        let of_last = record
            .updates
            .keys()
            .any(|site| site.as_str() == SITES[LAST]);
        if of_last && heeded.revoked.is_some_and(|until| round > until) {
            return Err(format!(
                "{}, round {round}: counted after its end",
                SITES[LAST]
            ));
        }
        if heeded.stopped.is_some_and(|last| round > last) {
            return Err(format!("round {round}: after the run was stopped"));
        }
    }
    Ok(())
}

/// A site believes that its update arrived exactly if it was counted, but for the lenience; and
/// whatever was counted is its own.
fn check_books(site: &Site, history: &[RoundRecord], lenience: Lenience) -> Result<(), String> {
    let name = &site.id;
    for ((round, blob), fate) in &site.fates {
        let counted = history.iter().any(|record| {
            let update = record.updates.get(&site.id);
            update.is_some_and(|update| (update.round, update.blob) == (*round, *blob))
        });
        let agrees = match (counted, fate) {
            (true, Fate::Delivered) | (false, Fate::Refused) => true,
            (_, Fate::Unknown) => lenience == Lenience::Revoked,
            (true, Fate::Refused) => false,
            (false, Fate::Delivered) => match lenience {
                Lenience::None => false,
                Lenience::Revoked => true,
                Lenience::Stopped(last) => *round == last,
            },
        };
        if !agrees {
            return Err(format!(
                "{name}, round {round}: counted {counted}, but {fate:?}"
            ));
        }
    }
    for record in history {
        if let Some(update) = record.updates.get(&site.id)
            && !site.fates.contains_key(&(update.round, update.blob))
        {
            return Err(format!("{name}: an update that is not its own"));
        }
    }
    Ok(())
}
