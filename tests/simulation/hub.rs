//! The coordinator's process: the real [`Coordinator`], journal, blobs and folds; played wires.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use certs::Trust;
use coordinator::aggregate::inspect;
use coordinator::journal::JournalError;
use coordinator::run::Phase;
use coordinator::service::{
    Coordinator, FoldJob, Initial, Offer, Options, ServiceError, Upload, blobs_path, launch, stop,
};
use coordinator::{blobs::Blobs, journal::Journal};
use protocol::message::{Manifest, Reason, Rejection, Subject, Want};
use protocol::{Digest, Message, Round, Signed, SiteId, Timestamp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use transport::BlobStore;

use super::faults::{Down, Faults, Fuse};
use super::scene::{LAST, START, Scene};
use super::world::Packet;

/// The coordinator's machine: a directory, and a process that may be dead.
pub(super) struct Hub {
    scene: &'static Scene,
    /// Whom the machine trusts: its files, which outlive the process.
    pub(super) trust: Trust,
    folder: tempfile::TempDir,
    options: Options,
    /// A second connection to the journal's database, to break it.
    saboteur: rusqlite::Connection,
    sabotaged: bool,
    /// Whether the operator has stopped the run.
    is_stopped: bool,
    pub(super) heeded: Heeded,
    pub(super) fuse: Fuse,
    pub(super) process: Option<Process>,
}

/// How far the run was when the process had first heeded an act of the operator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heeded {
    /// Of a revocation: the last round that may count the site.
    pub(super) revoked: Option<Round>,
    /// Of a stop: the last round of the run.
    pub(super) stopped: Option<Round>,
}

/// What dies with the process.
pub(super) struct Process {
    pub(super) coordinator: Coordinator,
    store: BlobStore,
    links: BTreeMap<SiteId, usize>,
    uploads: BTreeMap<(usize, Digest), (Signed<Manifest>, Manifest, Upload)>,
    folding: bool,
}

/// What the process wants from the world.
pub(super) enum Wish {
    Send(usize, Packet),
    Fold(Box<FoldJob>),
}

impl Hub {
    /// A directory with the run launched in it.
    pub(super) fn new(scene: &'static Scene, keep_rounds: Option<u32>) -> Self {
        let folder = super::world::folder();
        let mut journal = Journal::open_shared(folder.path()).expect("a journal");
        let blobs = Blobs::open_shared(blobs_path(folder.path())).expect("a folder");
        launch(
            &mut journal,
            &blobs,
            &scene.coordinator,
            &scene.run,
            &scene.plan,
            &Initial::open(&scene.first()).expect("our own file"),
            START,
        )
        .expect("a launch");
        let database = folder.path().join("journal.sqlite");
        let saboteur = rusqlite::Connection::open(database).expect("the journal's database");
        let (root, consortium) = (scene.trust.root().clone(), scene.trust.consortium());
        Self {
            scene,
            trust: Trust::new(root, (*consortium).clone()).expect("our own root"),
            folder,
            options: Options { keep_rounds },
            saboteur,
            sabotaged: false,
            is_stopped: false,
            heeded: Heeded::default(),
            fuse: Fuse::default(),
            process: None,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the process.
    pub(super) fn start(&mut self, now: Timestamp) -> Result<(), Down> {
        if self.sabotaged {
            self.saboteur
                .execute_batch("DROP TRIGGER full")
                .expect("the journal's database");
            self.sabotaged = false;
        }
        let identity = Arc::clone(&self.scene.coordinator);
        // A process that another test is just starting holds copies of our open files, the lock among
        // them, until it becomes another program.
        let mut tries = 0;
        let coordinator = loop {
            let identity = Arc::clone(&identity);
            match Coordinator::open(self.folder.path(), identity, self.options, now) {
                Err(ServiceError::Journal(JournalError::Locked { .. })) if tries < 1_000_000 => {
                    tries += 1;
                    thread::yield_now();
                }
                opened => break opened,
            }
        };
        let mut coordinator = self.sound(coordinator)?;
        coordinator.follow(self.trust.clone());
        self.process = Some(Process {
            coordinator,
            store: BlobStore::open(blobs_path(self.folder.path())).expect("a folder"),
            links: BTreeMap::new(),
            uploads: BTreeMap::new(),
            folding: false,
        });
        Ok(())
    }

    /// Looks at what the operator wants, as the process does a few times a second.
    pub(super) fn look(&mut self, now: Timestamp, wishes: &mut Vec<Wish>) -> Result<(), Down> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let done = process.coordinator.activate(now);
        self.sound(done)?;
        self.note_heeded();
        self.tick(now, wishes)
    }

    fn note_heeded(&mut self) {
        let process = self.process.as_ref().expect("alive");
        let run = process.coordinator.run().expect("a run");
        let published = run.checkpoint().round;
        let (last, _) = &self.scene.sites[LAST];
        if self.trust.consortium().active(last).is_none() {
            // A fold that has begun goes on.
            let until = match run.phase() {
                Phase::Aggregating { .. } => published.next(),
                _ => published,
            };
            self.heeded.revoked.get_or_insert(until);
        }
        if self.is_stopped {
            self.heeded.stopped.get_or_insert(published);
        }
    }

    /// The operator's `stop`, in a process of its own; whether it could be said.
    pub(super) fn stop(&mut self, now: Timestamp) -> bool {
        match stop(self.folder.path(), &self.scene.run, now) {
            Ok(_) => {
                self.is_stopped = true;
                true
            }
            Err(ServiceError::Journal(JournalError::Sqlite(_))) if self.sabotaged => false,
            Err(error) => panic!("stop: {error:?}"),
        }
    }

    /// From the event after `more` others on, the journal's disk is full.
    pub(super) fn fill_disk(&mut self, more: i64) {
        if self.sabotaged {
            return;
        }
        self.sabotaged = true;
        let count = "SELECT count(*) FROM events";
        let events: i64 = self
            .saboteur
            .query_row(count, [], |row| row.get(0))
            .expect("the journal's database");
        let full = events + more;
        self.saboteur
            .execute_batch(&format!(
                "CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.seq >= {full}
                 BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
            ))
            .expect("the journal's database");
    }

    /// A site's link was accepted; gives back the one it replaces.
    pub(super) fn accepted(&mut self, site: &SiteId, link: usize) -> Option<usize> {
        let process = self.process.as_mut()?;
        let old = process.links.insert(site.clone(), link);
        if let Some(old) = old {
            process.coordinator.link_ended(site, old as u64);
        }
        old
    }

    pub(super) fn disconnected(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        link: usize,
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.uploads.retain(|(of, _), _| *of != link);
        process.coordinator.link_ended(site, link as u64);
        if process.links.get(site) != Some(&link) {
            return Ok(());
        }
        process.links.remove(site);
        let done = process.coordinator.disconnected(now, site);
        self.sound(done)?;
        self.settle(wishes)
    }

    pub(super) fn tick(&mut self, now: Timestamp, wishes: &mut Vec<Wish>) -> Result<(), Down> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let done = process.coordinator.tick(now);
        self.sound(done)?;
        self.settle(wishes)
    }

    /// A fold's time is over: it is done, or it failed.
    pub(super) fn folded(
        &mut self,
        now: Timestamp,
        job: &FoldJob,
        fails: bool,
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.folding = false;
        if fails {
            process
                .coordinator
                .note_error(now, "disk is full".to_owned());
            process.coordinator.fold_again();
        } else {
            let folded = job.run().expect("every staged update is on disk");
            // The model is durable, and nobody knows of it yet.
            self.fuse.burn()?;
            let done = process.coordinator.folded(now, folded);
            self.sound(done)?;
        }
        self.settle(wishes)
    }

    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        link: usize,
        packet: Packet,
        (rng, faults): (&mut ChaCha8Rng, &Faults),
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        self.fuse.burn()?;
        let mut answer = |message: Message| wishes.push(Wish::Send(link, Packet::Message(message)));
        match packet {
            Packet::Message(Message::Hello(_)) => process.coordinator.connected(site.clone()),
            Packet::Message(Message::Manifest(signed)) => {
                let manifest = signed.open(|_, _, _| true).expect("our own site's");
                let offer = process
                    .coordinator
                    .offered(now, site, link as u64, &manifest);
                let offer = self.sound(offer)?;
                self.fuse.burn()?;
                match offer {
                    Offer::Counted(receipt) => answer(Message::Receipt(receipt)),
                    Offer::Refused(reason) => answer(refusal(manifest.blob.digest, reason)),
                    Offer::Welcome(upload) => {
                        let process = self.process.as_mut().expect("alive");
                        let blob = manifest.blob.digest;
                        let arriving = (signed, manifest, upload);
                        if process.uploads.insert((link, blob), arriving).is_some() {
                            // Announced twice, it is one upload here.
                            process.coordinator.upload_cut(site, link as u64, blob);
                        }
                        if process.store.contains(blob) {
                            return self.arrived(now, site, link, blob, wishes);
                        }
                        answer(Want { blob }.into());
                    }
                }
            }
            Packet::Message(Message::Want(want)) => {
                let manifest = process.coordinator.model_manifest(want.blob);
                if self.sound(manifest)?.is_some() {
                    let process = self.process.as_ref().expect("alive");
                    let bytes = std::fs::read(process.store.path(want.blob)).expect("a model");
                    wishes.push(Wish::Send(link, Packet::Bytes(want.blob, bytes)));
                } else {
                    answer(refusal(want.blob, Reason::Unknown));
                }
            }
            Packet::Message(message) => {
                let done = process.coordinator.message(now, site, message);
                self.sound(done)?;
            }
            Packet::Bytes(blob, bytes) => {
                if !process.uploads.contains_key(&(link, blob)) {
                    return Ok(());
                }
                if Digest::of(&bytes) != blob {
                    answer(Want { blob }.into());
                } else if rng.random_bool(faults.storage) {
                    answer(refusal(blob, Reason::StorageFull));
                } else {
                    process.store.put(&bytes).expect("a blob");
                    self.fuse.burn()?;
                    return self.arrived(now, site, link, blob, wishes);
                }
            }
        }
        self.settle(wishes)
    }

    /// An upload is durable: it is looked at, and answered.
    fn arrived(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        link: usize,
        blob: Digest,
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        let process = self.process.as_mut().expect("alive");
        let Some((signed, manifest, upload)) = process.uploads.remove(&(link, blob)) else {
            return Ok(());
        };
        let file = File::open(process.store.path(blob)).expect("a blob that was stored");
        let inspected = inspect(&upload.config, &upload.layout, &file)
            .expect("a readable blob")
            .map_err(Reason::from);
        let staged =
            process
                .coordinator
                .uploaded(now, (site, link as u64), &signed, &manifest, inspected);
        let staged = self.sound(staged)?;
        // The update counts, and its site does not know.
        self.fuse.burn()?;
        let answer = match staged {
            Ok(receipt) => Message::Receipt(receipt),
            Err(reason) => refusal(blob, reason),
        };
        wishes.push(Wish::Send(link, Packet::Message(answer)));
        self.settle(wishes)
    }

    /// Sends what is to be sent and starts what is to be started.
    fn settle(&mut self, wishes: &mut Vec<Wish>) -> Result<(), Down> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        while let Some((site, message)) = process.coordinator.poll_message() {
            self.fuse.burn()?;
            if let Some(link) = process.links.get(&site) {
                wishes.push(Wish::Send(*link, Packet::Message(message)));
            }
        }
        if !process.folding
            && let Some(job) = process.coordinator.poll_job()
        {
            process.folding = true;
            wishes.push(Wish::Fold(Box::new(job)));
        }
        if let Some(collection) = process.coordinator.poll_collection() {
            self.fuse.burn()?;
            let needed = collection.needed();
            process.store.collect(needed).expect("a folder");
        }
        Ok(())
    }

    /// A full disk ends the process; nothing else may fail.
    fn sound<T>(&self, result: Result<T, ServiceError>) -> Result<T, Down> {
        match result {
            Ok(value) => Ok(value),
            Err(ServiceError::Journal(JournalError::Sqlite(_))) if self.sabotaged => {
                Err(Down("journal's disk is full"))
            }
            Err(error) => panic!("coordinator: {error:?}"),
        }
    }
}

fn refusal(blob: Digest, reason: Reason) -> Message {
    let subject = Subject::Blob(blob);
    Rejection { subject, reason }.into()
}
