//! What leaves the site. Each thing is in the site's own log, on disk, before its first byte goes.

use protocol::bounded::{List, Text};
use protocol::codec;
use protocol::layout::Part;
use protocol::message::{Failed, Metrics, TaskMetrics};
use protocol::{Digest, Message, Signed, Version};
use transport::send_blob;

use super::{Site, Told};
use crate::clock;
use crate::federation::egress::{EgressLog, EgressRow, Kind};
use crate::federation::error::FederationError;
use crate::federation::session::{Event, Ready, Task};
use crate::federation::trainer::Report;

impl Site {
    pub(super) fn send_update(
        &mut self,
        task: &Task,
        ready: &Ready,
    ) -> Result<(), FederationError> {
        let (Some(active), Some(link)) = (&mut self.active, self.link.clone()) else {
            return Ok(());
        };
        if active.sending == Some(ready.blob) {
            return Ok(());
        }
        // The policy of now, not the one of the day on which the update was made.
        if let Err(rule) = self.approval.lets_out(ready) {
            tracing::warn!(round = %task.round, rule, "update stays in");
            active
                .session
                .handle(Event::Refused(ready.blob, format!("site policy: {rule}")));
            return Ok(());
        }
        let workplace = &active.workplace;
        let manifest = workplace.manifest(task, ready);
        let identity = &self.identity;
        let signed = Signed::new(&manifest, |context, bytes| identity.sign(context, bytes))
            .map_err(|error| FederationError::Trainer(error.to_string()))?;
        let slots = workplace
            .layout
            .slots()
            .iter()
            .filter(|slot| slot.part != Part::Local);
        let row = EgressRow {
            tensors: slots.map(|slot| slot.name.clone()).collect(),
            norm: ready.norm,
            examples: ready.examples,
            ..EgressRow::new(clock::now(), task, Kind::Update, ready.blob, ready.bytes)
        };
        note(&self.egress, row)?;
        active.sending = Some(ready.blob);
        let (store, tell, serial, digest) = (
            self.blobs.clone(),
            self.tell.clone(),
            self.serial,
            ready.blob,
        );
        self.tasks.spawn(async move {
            let blob = tokio::task::spawn_blocking(move || store.blob(digest)).await;
            let result = match blob {
                Ok(Ok(blob)) => send_blob(&link, &blob, &signed, |_| {}).await.map(|_| ()),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => return,
            };
            let _ = tell.send(Told::Sent(serial, digest, result)).await;
        });
        Ok(())
    }

    /// Evaluations are small: one message, no transfer. If it is lost the coordinator asks again.
    pub(super) async fn send_report(
        &mut self,
        task: &Task,
        ready: &Ready,
    ) -> Result<(), FederationError> {
        let (Some(active), Some(link)) = (&mut self.active, self.link.clone()) else {
            return Ok(());
        };
        let report = match active.workplace.store.report(ready.blob) {
            Err(error) if error.is_file_lost() => {
                tracing::warn!(%error, "evaluation lost: it is made again");
                active.session.handle(Event::Lost(ready.blob));
                return Ok(());
            }
            report => report?,
        };
        let report = self.approval.suppress(report);
        let message = Message::from(metrics(task, &report));
        let (digest, bytes) = frame(&message, link.version())?;
        let row = EgressRow {
            metrics: Some(report),
            ..EgressRow::new(clock::now(), task, Kind::Evaluation, digest, bytes)
        };
        note(&self.egress, row)?;
        if link.send(message).await.is_ok() {
            active.session.handle(Event::Received(ready.blob));
        }
        Ok(())
    }

    /// Why a task cannot be done here: text that speaks of no patient and no file.
    pub(super) async fn send_failure(
        &mut self,
        task: &Task,
        reason: String,
    ) -> Result<(), FederationError> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        let message = Message::from(Failed {
            run: task.run.clone(),
            round: task.round,
            reason: Text::lossy(&reason),
        });
        let (digest, bytes) = frame(&message, link.version())?;
        let row = EgressRow {
            text: Some(reason),
            ..EgressRow::new(clock::now(), task, Kind::Failure, digest, bytes)
        };
        note(&self.egress, row)?;
        // If the link has ended, the coordinator asks again on the next.
        let _ = link.send(message).await;
        Ok(())
    }
}

/// A message as it goes on the wire: the digest of its bytes, and how many there are.
fn frame(message: &Message, version: Version) -> Result<(Digest, u64), FederationError> {
    let bytes = codec::encode(message, version)
        .map_err(|error| FederationError::Trainer(error.to_string()))?;
    Ok((Digest::of(&bytes), bytes.len() as u64))
}

/// Notes what is about to leave, once: sending again after a cut is the same thing.
fn note(egress: &EgressLog, row: EgressRow) -> Result<(), FederationError> {
    let same = |known: &EgressRow| {
        known.digest == row.digest && known.round == row.round && known.run == row.run
    };
    if egress.rows()?.iter().rev().take(RECENT).any(same) {
        return Ok(());
    }
    egress.append(&row)
}

fn metrics(task: &Task, report: &Report) -> Metrics {
    let counts = |counts: &[u32]| List::new(counts.to_vec()).unwrap_or_default();
    let tasks: Vec<TaskMetrics> = report
        .tasks
        .iter()
        .map(|task| TaskMetrics {
            task: Text::lossy(&task.task),
            positive: counts(&task.positive),
            negative: counts(&task.negative),
            auc: task.auc,
        })
        .collect();
    Metrics {
        run: task.run.clone(),
        round: task.round,
        model: task.model,
        scalars: List::default(),
        tasks: List::new(tasks).unwrap_or_default(),
    }
}

/// Rows of the egress log in which a resent update is looked for.
const RECENT: usize = 8;
