//! A site's process: the real [`Session`], its store, and the work of a round; played wires.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use certs::Identity;
use protocol::bounded::{List, Text};
use protocol::layout::Layout;
use protocol::message::{
    Doing, Failed, Hello, Join, Metrics, Plan as PlanMessage, Reason, Status, Subject, TaskMetrics,
    Want, Work,
};
use protocol::plan::Plan;
use protocol::{Digest, Message, Round, Signed, SiteId, Timestamp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use site_client::federation::{
    Action, Event, Report, Session, SiteStore, Task, Working, Workplace,
};
use transport::BlobStore;

use super::faults::{Down, Faults, Fuse};
use super::scene::Scene;
use super::world::Packet;

/// A site's machine: a directory, and a process that may be dead.
pub(super) struct Site {
    scene: &'static Scene,
    place: usize,
    pub(super) id: SiteId,
    identity: Arc<Identity>,
    folder: tempfile::TempDir,
    pub(super) fuse: Fuse,
    pub(super) process: Option<Process>,
    /// Counts processes, so that what one began does not reach the next.
    pub(super) incarnation: u32,
    /// What the site durably believes became of each update it finished.
    pub(super) fates: BTreeMap<(Round, Digest), Fate>,
}

/// What became of a finished update, as its site knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Unknown,
    Delivered,
    Refused,
}

/// What dies with the process.
pub(super) struct Process {
    blobs: BlobStore,
    active: Option<(Workplace, Session)>,
    cancel: Arc<AtomicBool>,
    pub(super) link: Option<usize>,
    fetching: Option<Digest>,
    sending: Option<Digest>,
    pub(super) finished: bool,
}

/// What the process wants from the world.
pub(super) enum Wish {
    Send(usize, Packet),
    Work(Task, Arc<AtomicBool>),
    /// To try a transfer again after a while, if its link is still there.
    TryAgain(usize, Digest),
}

impl Site {
    pub(super) fn new(scene: &'static Scene, place: usize) -> Self {
        let (id, identity) = scene.sites[place].clone();
        Self {
            scene,
            place,
            id,
            identity,
            folder: super::world::folder(),
            fuse: Fuse::default(),
            process: None,
            incarnation: 0,
            fates: BTreeMap::new(),
        }
    }

    pub(super) fn start(&mut self) {
        self.incarnation += 1;
        self.process = Some(Process {
            blobs: BlobStore::open(self.folder.path().join("store")).expect("a folder"),
            active: None,
            cancel: Arc::default(),
            link: None,
            fetching: None,
            sending: None,
            finished: false,
        });
    }

    pub(super) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.cancel.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn connected(&mut self, link: usize, now: Timestamp, wishes: &mut Vec<Wish>) {
        let Some(process) = &mut self.process else {
            return;
        };
        (process.link, process.finished) = (Some(link), false);
        let hello = Hello {
            software: Text::lossy("simulated"),
            consortium: self.scene.trust.consortium().id().clone(),
            consortium_version: 1,
            time: now,
        };
        wishes.push(Wish::Send(link, Packet::Message(hello.into())));
    }

    pub(super) fn disconnected(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        (process.link, process.fetching, process.sending) = (None, None, None);
        if let Some((_, session)) = &mut process.active {
            session.handle(Event::Disconnected);
        }
    }

    pub(super) fn receive(
        &mut self,
        packet: Packet,
        chance: (&mut ChaCha8Rng, &Faults),
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        self.fuse.burn()?;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(link) = process.link else {
            return Ok(());
        };
        let event = match packet {
            Packet::Message(Message::Plan(plan)) => {
                self.plan(link, &plan, wishes);
                Event::Connected
            }
            Packet::Message(Message::Task(task)) => Event::Asked(Task {
                run: task.run,
                round: task.round,
                model: task.model.digest,
                first_step: task.step,
                work: task.work,
            }),
            Packet::Message(Message::Withdraw(_)) => Event::Withdrawn,
            Packet::Message(Message::Finish(_)) => {
                process.finished = true;
                Event::Withdrawn
            }
            Packet::Message(Message::Receipt(receipt)) => {
                // Doubled bytes can be answered by a refusal and then a receipt: a receipt holds.
                let receipt = receipt.open(|_, _, _| true).expect("the coordinator's");
                process.sending = None;
                Event::Received(receipt.blob.digest)
            }
            Packet::Message(Message::Rejection(rejection)) => {
                let Subject::Blob(blob) = rejection.subject else {
                    return Ok(());
                };
                if process.fetching == Some(blob) {
                    process.fetching = None;
                    return Ok(());
                }
                if process.sending != Some(blob) {
                    return Ok(());
                }
                process.sending = None;
                if matches!(rejection.reason, Reason::Busy | Reason::StorageFull) {
                    wishes.push(Wish::TryAgain(link, blob));
                    return Ok(());
                }
                Event::Refused(blob, rejection.reason.to_string())
            }
            Packet::Message(Message::Want(want)) => {
                if process.sending == Some(want.blob) {
                    let bytes = std::fs::read(process.blobs.path(want.blob));
                    let bytes = bytes.expect("an update is on disk until it is delivered");
                    wishes.push(Wish::Send(link, Packet::Bytes(want.blob, bytes)));
                }
                return Ok(());
            }
            Packet::Message(_) => return Ok(()),
            Packet::Bytes(blob, bytes) => {
                if process.fetching != Some(blob) {
                    return Ok(());
                }
                if Digest::of(&bytes) != blob {
                    let want = Want { blob };
                    wishes.push(Wish::Send(link, Packet::Message(want.into())));
                    return Ok(());
                }
                process.fetching = None;
                process.blobs.put(&bytes).expect("a blob");
                self.fuse.burn()?;
                Event::Fetched(blob)
            }
        };
        self.handle(event, chance, wishes)
    }

    /// A while has passed since a transfer failed.
    pub(super) fn waited(
        &mut self,
        link: usize,
        blob: Digest,
        chance: (&mut ChaCha8Rng, &Faults),
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        let process = self.process.as_ref();
        if process.is_some_and(|process| process.link == Some(link)) {
            self.handle(Event::TryAgain(blob), chance, wishes)?;
        }
        Ok(())
    }

    /// The time a task takes is over; it is done unless it was canceled, or it fails.
    pub(super) fn worked(
        &mut self,
        task: &Task,
        cancel: &AtomicBool,
        fails: bool,
        chance: (&mut ChaCha8Rng, &Faults),
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        let Some(Process {
            active: Some((workplace, _)),
            ..
        }) = &mut self.process
        else {
            return Ok(());
        };
        if cancel.load(Ordering::Relaxed) {
            return Ok(());
        }
        let event = if fails {
            Event::Failed(task.clone(), "disk is full".to_owned())
        } else {
            let product = workplace.work(task, cancel, |_, _, _| {});
            let ready = product.expect("the stand-in cannot fail");
            // The result is durable, and the session does not know.
            self.fuse.burn()?;
            Event::Done(task.clone(), ready)
        };
        self.handle(event, chance, wishes)
    }

    /// Whether nothing is left to be told or done.
    pub(super) fn is_settled(&self) -> bool {
        let unknown = self.fates.values().any(|fate| *fate == Fate::Unknown);
        let process = self.process.as_ref();
        process.is_some_and(|process| process.finished && !unknown)
    }

    fn plan(&mut self, link: usize, message: &PlanMessage, wishes: &mut Vec<Wish>) {
        let launch = message.launch.open(|_, _, _| true).expect("a launch");
        let process = self.process.as_mut().expect("alive");
        process.finished = false;
        if process.active.is_none() {
            let plan = Plan::parse(&message.text).expect("the plan");
            let store = SiteStore::open(&self.folder.path().join("runs"), &launch.run);
            let store = store.expect("the site's own store");
            let tensors = self.scene.schema.tensors().iter();
            let tensors = tensors.map(|spec| (spec.name(), spec.elements()));
            let layout = Arc::new(Layout::new(tensors, plan.config()));
            let session = Session::resume(store.state().clone());
            let workplace = Workplace {
                run: launch.run.clone(),
                site: self.id.clone(),
                plan: Arc::new(plan),
                schema: Arc::new(self.scene.schema.clone()),
                layout,
                store,
                blobs: process.blobs.clone(),
                trainer: Arc::new(Mutex::new(self.scene.trainer(self.place))),
            };
            process.active = Some((workplace, session));
        }
        let join = Join {
            run: launch.run,
            plan: launch.plan,
            examples: 10,
        };
        wishes.push(Wish::Send(link, Packet::Message(join.into())));
    }

    /// Puts an event to the session and does everything it wants.
    fn handle(
        &mut self,
        event: Event,
        (rng, faults): (&mut ChaCha8Rng, &Faults),
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Down> {
        if let Some((_, session)) = self.process.as_mut().and_then(|one| one.active.as_mut()) {
            session.handle(event);
        }
        loop {
            let Some(process) = &mut self.process else {
                return Ok(());
            };
            let Some((workplace, session)) = &mut process.active else {
                return Ok(());
            };
            let Some(action) = session.poll() else {
                return Ok(());
            };
            self.fuse.burn()?;
            match action {
                Action::Cancel => {
                    process.cancel.store(true, Ordering::Relaxed);
                    process.cancel = Arc::default();
                }
                Action::Fetch(blob) => {
                    if let Some(link) = process.link
                        && process.fetching != Some(blob)
                    {
                        process.fetching = Some(blob);
                        let want = Want { blob };
                        wishes.push(Wish::Send(link, Packet::Message(want.into())));
                    }
                }
                Action::Persist(state) => {
                    if rng.random_bool(faults.site_disk) {
                        return Err(Down("site's disk is full"));
                    }
                    workplace.store.persist(&state).expect("the site's store");
                    note_fate(&mut self.fates, state.current.as_ref());
                    if let Some((task, Working::Fetching)) = &state.current {
                        let keep = [task.model].into();
                        process.blobs.collect(&keep).expect("a folder");
                    }
                }
                Action::ReportFailure(task, reason) => {
                    if let Some(link) = process.link {
                        let failed = Failed {
                            run: task.run,
                            round: task.round,
                            reason: Text::lossy(&reason),
                        };
                        wishes.push(Wish::Send(link, Packet::Message(failed.into())));
                    }
                }
                Action::Start(task) => {
                    if let Some(link) = process.link {
                        let status = status(&task);
                        wishes.push(Wish::Send(link, Packet::Message(status.into())));
                    }
                    wishes.push(Wish::Work(task, Arc::clone(&process.cancel)));
                }
                Action::Send(task, ready) if task.work == Work::Evaluate => {
                    let report = workplace.store.report(ready.blob).expect("a report");
                    if let Some(link) = process.link {
                        let metrics = metrics(&task, &report);
                        wishes.push(Wish::Send(link, Packet::Message(metrics.into())));
                        session.handle(Event::Received(ready.blob));
                    }
                }
                Action::Send(task, ready) => {
                    if let Some(link) = process.link
                        && process.sending != Some(ready.blob)
                    {
                        process.sending = Some(ready.blob);
                        let manifest = workplace.manifest(&task, &ready);
                        let signed = Signed::new(&manifest, |context, text| {
                            self.identity.sign(context, text)
                        })
                        .expect("a short statement");
                        let message = Message::Manifest(signed);
                        wishes.push(Wish::Send(link, Packet::Message(message)));
                    }
                }
            }
        }
    }
}

/// What the durable state says of the update it speaks of.
fn note_fate(fates: &mut BTreeMap<(Round, Digest), Fate>, current: Option<&(Task, Working)>) {
    let Some((task, working)) = current else {
        return;
    };
    if task.work != Work::Train {
        return;
    }
    match working {
        Working::Ready(ready) => {
            fates
                .entry((task.round, ready.blob))
                .or_insert(Fate::Unknown);
        }
        Working::Delivered(ready) => {
            fates.insert((task.round, ready.blob), Fate::Delivered);
        }
        Working::Given(_) => {
            let of_round = fates
                .iter_mut()
                .filter(|((round, _), _)| *round == task.round);
            for (_, fate) in of_round {
                *fate = Fate::Refused;
            }
        }
        Working::Fetching | Working::Running => {}
    }
}

fn status(task: &Task) -> Status {
    Status {
        run: task.run.clone(),
        round: task.round,
        doing: Doing::Training,
        done: 1,
        total: 10,
    }
}

fn metrics(task: &Task, report: &Report) -> Metrics {
    let list = |counts: &[u32]| List::new(counts.to_vec()).expect("a few bins");
    let tasks = report.tasks.iter().map(|one| TaskMetrics {
        task: Text::lossy(&one.task),
        positive: list(&one.positive),
        negative: list(&one.negative),
        auc: one.auc,
    });
    Metrics {
        run: task.run.clone(),
        round: task.round,
        model: task.model,
        scalars: List::default(),
        tasks: List::new(tasks.collect()).expect("one task"),
    }
}
