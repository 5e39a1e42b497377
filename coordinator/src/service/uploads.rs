//! Blobs in and out: which upload is welcome, which one counts, which model may be fetched.

use std::sync::Arc;

use protocol::bounded::Text;
use protocol::layout::Layout;
use protocol::message::{self, Content, Manifest, Reason, Receipt};
use protocol::plan::Config;
use protocol::{BlobRef, Digest, Signed, SiteId, Timestamp};

use super::arriving::Busy;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use crate::journal::{Document, JournalError};
use crate::run::{Event, Update};

/// What becomes of an upload that a site announces.
pub enum Offer {
    /// Its bytes are wanted.
    Welcome(Upload),
    /// It counts already, and this is the receipt it was given then: the site did not get it.
    Counted(Signed<Receipt>),
    /// It is not wanted, which is journalled; or, if that is [`Reason::Busy`], not now.
    Refused(Reason),
}

/// An upload that would be welcome, and what its bytes must be.
#[derive(Clone)]
pub struct Upload {
    /// What the plan says.
    pub config: Arc<Config>,
    /// Where each number lies.
    pub layout: Arc<Layout>,
    /// What the manifest says.
    pub manifest: Manifest,
}

impl Coordinator {
    /// What becomes of an upload that a site announces over a link, by the link's number. One that is
    /// welcome ends in [`uploaded`](Self::uploaded), or [`upload_cut`](Self::upload_cut), or with its
    /// link. While one is moving, another of the same site and round has to wait.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub fn offered(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        link: u64,
        manifest: &Manifest,
    ) -> Result<Offer, ServiceError> {
        if let Some(receipt) = self.given_receipt(site, manifest)? {
            return Ok(Offer::Counted(receipt));
        }
        let blob = manifest.blob.digest;
        match self.welcomes(site, manifest) {
            Ok(upload) => match self.arriving.begin(site, link, (blob, manifest.round)) {
                Ok(given_up) => {
                    for blob in given_up {
                        self.turn_down(blob);
                    }
                    self.tidy()?;
                    Ok(Offer::Welcome(upload))
                }
                Err(Busy) => Ok(Offer::Refused(Reason::Busy)),
            },
            Err(reason) => {
                self.refuse(now, site, reason.clone())?;
                self.turn_down(blob);
                Ok(Offer::Refused(reason))
            }
        }
    }

    /// An upload over a link was cut short; the site may go on with it.
    pub fn upload_cut(&mut self, site: &SiteId, link: u64, blob: Digest) {
        self.arriving.end(site, link, blob);
    }

    /// A link has ended, and with it the uploads over it; the site may go on with them.
    pub fn link_ended(&mut self, site: &SiteId, link: u64) {
        self.arriving.cut(site, link);
    }

    /// The receipt of an upload that counts already, be it in the round in work or in one before.
    fn given_receipt(
        &self,
        site: &SiteId,
        manifest: &Manifest,
    ) -> Result<Option<Signed<Receipt>>, ServiceError> {
        let counted = self
            .active()
            .filter(|active| active.launch.run == manifest.run)
            .and_then(|active| {
                let run = active.driver.run();
                run.counted(site, manifest.round, manifest.blob.digest)
            });
        let Some(update) = counted else {
            return Ok(None);
        };
        let bytes = self.journal.document(update.receipt)?;
        let receipt = bytes.and_then(|bytes| Signed::from_bytes(&bytes).ok());
        let damaged = JournalError::Malformed {
            column: "documents.bytes",
        };
        Ok(Some(receipt.ok_or(damaged)?))
    }

    fn welcomes(&self, site: &SiteId, manifest: &Manifest) -> Result<Upload, Reason> {
        let active = self
            .active()
            .filter(|active| active.launch.run == manifest.run)
            .ok_or(Reason::Unknown)?;
        let defect = |defect: &str| Reason::Manifest {
            defect: Text::lossy(defect),
        };
        let Content::Update(facts) = &manifest.content else {
            return Err(defect("not of an update"));
        };
        if manifest.schema != active.schema {
            return Err(Reason::WrongSchema {
                expected: active.schema,
                found: manifest.schema,
            });
        }
        if facts.encoding != active.config.encoding.update {
            return Err(defect("another encoding than the plan's"));
        }
        let (expected, found) = (active.layout.update_bytes(), manifest.blob.len);
        if found != expected {
            let defect = format!("update: expected {expected} bytes, found {found}");
            return Err(Reason::Invalid {
                defect: Text::lossy(&defect),
            });
        }
        let update = update(manifest, facts, [manifest.blob.digest; 2], 0.0);
        active.driver.run().admits_update(site, &update)?;
        Ok(Upload {
            config: Arc::clone(&active.config),
            layout: Arc::clone(&active.layout),
            manifest: manifest.clone(),
        })
    }

    /// An upload is complete, verified and durable under its digest, and was inspected: its norm, or
    /// what is wrong with it. Once it is journalled it counts, and the receipt may go. One that is
    /// refused does not stay on disk, unless anything else refers to the same bytes.
    ///
    /// # Errors
    /// If the journal cannot be read or written, or the receipt not be signed.
    pub fn uploaded(
        &mut self,
        now: Timestamp,
        (site, link): (&SiteId, u64),
        signed: &Signed<Manifest>,
        manifest: &Manifest,
        inspected: Result<f64, Reason>,
    ) -> Result<Result<Signed<Receipt>, Reason>, ServiceError> {
        let blob = manifest.blob.digest;
        self.arriving.end(site, link, blob);
        let staged = self.stage(now, site, signed, manifest, inspected)?;
        match &staged {
            // Nothing is wrong with it: the site sends it again.
            Err(Reason::Busy | Reason::StorageFull) => {}
            Ok(_) => self.arriving.settle(site, blob),
            Err(_) => {
                self.arriving.settle(site, blob);
                self.turn_down(blob);
                self.tidy()?;
            }
        }
        Ok(staged)
    }

    fn stage(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        signed: &Signed<Manifest>,
        manifest: &Manifest,
        inspected: Result<f64, Reason>,
    ) -> Result<Result<Signed<Receipt>, Reason>, ServiceError> {
        let facts = match (inspected, &manifest.content) {
            (Ok(norm), Content::Update(facts)) => Ok((norm, facts)),
            (Ok(_), _) => Err(Reason::Manifest {
                defect: Text::lossy("not of an update"),
            }),
            (Err(reason), _) => Err(reason),
        };
        let (norm, facts) = match facts {
            Ok(facts) => facts,
            Err(reason) => {
                self.refuse(now, site, reason.clone())?;
                return Ok(Err(reason));
            }
        };
        if let Some(receipt) = self.given_receipt(site, manifest)? {
            return Ok(Ok(receipt));
        }
        // This update may be the last that the fold waits for.
        self.drop_shut_out(now)?;
        if self.is_shut_out(site) {
            let reason = Reason::Invalid {
                defect: Text::lossy("update: of a site that was revoked"),
            };
            self.refuse(now, site, reason.clone())?;
            return Ok(Err(reason));
        }
        let receipt = self.sign(&Receipt {
            blob: manifest.blob,
            stored: now,
        })?;
        let update = update(manifest, facts, [signed.digest(), receipt.digest()], norm);
        let bytes = [signed.to_bytes(), receipt.to_bytes()];
        let documents = [Document { bytes: &bytes[0] }, Document { bytes: &bytes[1] }];
        let event = Event::Staged {
            site: site.clone(),
            update,
        };
        let staged = self.submit(now, event, &documents)?;
        Ok(staged.map(|()| receipt))
    }

    /// Whether a site may fetch a blob: published models, nothing else.
    pub fn may_fetch(&self, digest: Digest) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let run = active.driver.run();
            [run.checkpoint().model, run.result().model].contains(&digest)
        })
    }

    /// The manifest of a published model, signed.
    ///
    /// # Errors
    /// If there is no such model, or it cannot be signed.
    pub fn model_manifest(&self, digest: Digest) -> Result<Option<Signed<Manifest>>, ServiceError> {
        let Some(active) = self.active.as_ref().filter(|_| self.may_fetch(digest)) else {
            return Ok(None);
        };
        let run = active.driver.run();
        let of = [run.checkpoint(), run.result()];
        let Some(checkpoint) = of.into_iter().find(|one| one.model == digest) else {
            return Ok(None);
        };
        let manifest = Manifest {
            blob: BlobRef {
                digest,
                len: active.layout.model_bytes(),
            },
            run: active.launch.run.clone(),
            round: checkpoint.round,
            schema: active.schema,
            content: Content::Model {
                step: checkpoint.step,
            },
        };
        self.sign(&manifest).map(Some)
    }
}

fn update(
    manifest: &Manifest,
    facts: &message::UpdateFacts,
    [signed, receipt]: [Digest; 2],
    norm: f64,
) -> Update {
    Update {
        round: manifest.round,
        base: facts.base,
        blob: manifest.blob.digest,
        manifest: signed,
        receipt,
        bytes: manifest.blob.len,
        examples: facts.examples,
        steps: facts.steps,
        norm: norm.into(),
    }
}
