//! The virtual clock, and what happens by it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coordinator::service::FoldJob;
use protocol::{Digest, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use site_client::federation::Task;

use super::faults::{CALM, Down, Faults, Fuse};
use super::hub::{self, Hub};
use super::operator::Operator;
use super::scene::{LAST, SITES, START, Scene};
use super::site::{self, Site};
use super::verdict::Verdict;

mod wires;

pub(super) use wires::Packet;
use wires::{End, Link, brief};

/// What happens next.
enum What {
    Arrive(usize, End, Packet),
    Break(usize, End),
    Connect(usize, u32),
    Worked(usize, u32, Task, Arc<AtomicBool>),
    Waited(usize, usize, Digest),
    Folded(u32, Box<FoldJob>),
    HubUp,
    SiteUp(usize),
    FillDisk(i64),
    CutOff(usize, u64),
    Jump(i64),
    Revoke,
    Stop,
    Look,
}

/// A network and its clock.
pub(super) struct World {
    rng: ChaCha8Rng,
    faults: Faults,
    now: u64,
    /// What the coordinator's clock is ahead or behind, in ms.
    skew: i64,
    serial: u64,
    queue: BTreeMap<(u64, u64), What>,
    links: Vec<Link>,
    hub: Hub,
    hub_incarnation: u32,
    sites: Vec<Site>,
    /// Until when each site is cut off.
    cut_off: Vec<u64>,
    keep_rounds: Option<u32>,
    operator: Operator,
    scene: &'static Scene,
    story: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(
        scene: &'static Scene,
        seed: u64,
        faults: Faults,
        operator: Operator,
        told: bool,
    ) -> Self {
        let keep_rounds = (seed / 4 % 2 == 1).then_some(1);
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults,
            now: 0,
            skew: 0,
            serial: 0,
            queue: BTreeMap::new(),
            links: Vec::new(),
            hub: Hub::new(scene, keep_rounds),
            hub_incarnation: 0,
            sites: (0..SITES.len())
                .map(|site| Site::new(scene, site))
                .collect(),
            cut_off: vec![0; SITES.len()],
            keep_rounds,
            operator,
            scene,
            story: told.then(VecDeque::new),
        }
    }

    /// Runs until the run is finished and every site knows; gives back the final model, or what
    /// does not hold.
    pub(super) fn run(&mut self) -> Result<Digest, String> {
        self.prepare();
        for _ in 0..MOST_STEPS {
            if self.is_over() {
                return Verdict {
                    scene: self.scene,
                    operator: self.operator,
                    keep_rounds: self.keep_rounds,
                }
                .of(&mut self.hub, &self.sites);
            }
            self.step()?;
        }
        Err(format!(
            "no end after {MOST_STEPS} steps, {} s",
            self.now / 1000
        ))
    }

    /// The last things that happened.
    pub(super) fn story(&self) -> String {
        self.story
            .iter()
            .flatten()
            .fold(String::new(), |mut text, line| {
                writeln!(text, "{line}").expect("a string");
                text
            })
    }

    fn prepare(&mut self) {
        self.after(0, What::HubUp);
        for site in 0..SITES.len() {
            let at = self.rng.random_range(0..20_000);
            self.after(at, What::SiteUp(site));
        }
        for _ in 0..self.faults.journal {
            let at = self.rng.random_range(0..900_000);
            let more = self.rng.random_range(0..6);
            self.after(at, What::FillDisk(more));
        }
        for _ in 0..self.faults.partitions {
            let at = self.rng.random_range(0..900_000);
            let lasts = self.rng.random_range(1_000..1_500_000);
            let site = self.rng.random_range(0..SITES.len());
            self.after(at, What::CutOff(site, lasts));
        }
        for _ in 0..self.faults.jumps {
            let at = self.rng.random_range(0..900_000);
            let by = self.rng.random_range(-DAY..DAY);
            self.after(at, What::Jump(by));
        }
        if let Some(at) = self.operator.revokes {
            self.after(at, What::Revoke);
        }
        if let Some(at) = self.operator.stops {
            self.after(at, What::Stop);
        }
    }

    fn after(&mut self, wait: u64, what: What) {
        self.serial += 1;
        self.queue.insert((self.now + wait, self.serial), what);
    }

    /// The coordinator's clock.
    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.now).expect("a short time");
        Timestamp(START.0.saturating_add_signed(passed + self.skew))
    }

    /// The coordinator's next deadline, in virtual time.
    fn hub_due(&self) -> Option<u64> {
        let process = self.hub.process.as_ref()?;
        let due = process.coordinator.poll_timeout()?;
        let wait = due.since(self.wall()).as_millis();
        Some(self.now + u64::try_from(wait).expect("a short time"))
    }

    fn step(&mut self) -> Result<(), String> {
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        let due = self.hub_due();
        if due.is_some_and(|due| next.is_none_or(|next| due <= next)) {
            self.now = due.unwrap_or(self.now);
            let wall = self.wall();
            self.at_hub(|hub, _, wishes| hub.tick(wall, wishes));
            return Ok(());
        }
        let Some(((at, _), what)) = self.queue.pop_first() else {
            return Err("nothing left to happen, and the run is not over".to_owned());
        };
        self.now = at;
        if self.now > CALM {
            let calm = Faults::none();
            let Faults { delay, .. } = self.faults;
            self.faults = Faults { delay, ..calm };
        }
        self.happen(what);
        Ok(())
    }

    fn happen(&mut self, what: What) {
        let wall = self.wall();
        match what {
            What::Arrive(link, end, packet) => {
                if !self.links[link].open[end as usize] {
                    return;
                }
                let site = self.links[link].site;
                self.tell(|| format!("{} -> {end:?}: {}", SITES[site], brief(&packet)));
                match end {
                    End::Hub => {
                        let id = self.sites[site].id.clone();
                        self.at_hub(|hub, chance, wishes| {
                            hub.receive(wall, &id, link, packet, chance, wishes)
                        });
                    }
                    End::Site => self.at_site(site, |site, chance, wishes| {
                        site.receive(packet, chance, wishes)
                    }),
                }
            }
            What::Break(link, end) => self.broken(link, end),
            What::Connect(site, incarnation) => self.connect(site, incarnation),
            What::Worked(site, incarnation, task, cancel) => {
                if self.sites[site].incarnation == incarnation {
                    let fails = self.rng.random_bool(self.faults.training);
                    self.tell(|| format!("{}: worked, fails: {fails}", SITES[site]));
                    self.at_site(site, |site, chance, wishes| {
                        site.worked(&task, &cancel, fails, chance, wishes)
                    });
                }
            }
            What::Waited(site, link, blob) => self.at_site(site, |site, chance, wishes| {
                site.waited(link, blob, chance, wishes)
            }),
            What::Folded(incarnation, job) => {
                if self.hub_incarnation == incarnation {
                    let fails = self.rng.random_bool(self.faults.fold);
                    self.tell(|| format!("folded, fails: {fails}"));
                    self.at_hub(|hub, _, wishes| hub.folded(wall, &job, fails, wishes));
                }
            }
            What::HubUp => self.hub_up(),
            What::SiteUp(site) => {
                self.tell(|| format!("{}: starts", SITES[site]));
                self.sites[site].start();
                if self.faults.site_crashes > 0 && self.rng.random_bool(0.7) {
                    self.faults.site_crashes -= 1;
                    self.sites[site].fuse = Fuse::lit(self.rng.random_range(0..60));
                }
                let incarnation = self.sites[site].incarnation;
                self.after(0, What::Connect(site, incarnation));
            }
            What::FillDisk(more) => {
                self.tell(|| format!("journal's disk is full after {more} events"));
                self.hub.fill_disk(more);
            }
            What::CutOff(site, lasts) => {
                self.tell(|| format!("{}: cut off for {lasts} ms", SITES[site]));
                self.cut_off[site] = self.now + lasts;
                self.kill_links(site);
            }
            What::Jump(by) => {
                self.tell(|| format!("clock jumps by {by} ms"));
                self.skew += by;
            }
            What::Revoke => {
                self.tell(|| format!("{}: revoked", SITES[LAST]));
                let known = self.hub.trust.update(&self.scene.without_last);
                known.expect("the next file");
                self.kill_links(LAST);
                self.look_soon();
            }
            What::Stop => {
                let said = self.hub.stop(wall);
                self.tell(|| format!("stop, said: {said}"));
                if said {
                    self.look_soon();
                } else {
                    self.after(10_000, What::Stop);
                }
            }
            What::Look => self.at_hub(|hub, _, wishes| hub.look(wall, wishes)),
        }
    }

    fn hub_up(&mut self) {
        self.tell(|| "coordinator starts".to_owned());
        self.hub_incarnation += 1;
        let wall = self.wall();
        if self.faults.hub_crashes > 0 {
            self.faults.hub_crashes -= 1;
            self.hub.fuse = Fuse::lit(self.rng.random_range(0..120));
        }
        if self.hub.start(wall).is_err() {
            self.after(1000, What::HubUp);
        }
        self.at_hub(|hub, _, wishes| hub.look(wall, wishes));
    }

    /// The coordinator looks at what the operator wants a few times a second.
    fn look_soon(&mut self) {
        let wait = self.rng.random_range(0..1000);
        self.after(wait, What::Look);
    }

    fn at_hub(
        &mut self,
        work: impl FnOnce(&mut Hub, (&mut ChaCha8Rng, &Faults), &mut Vec<hub::Wish>) -> Result<(), Down>,
    ) {
        let mut wishes = Vec::new();
        let done = work(&mut self.hub, (&mut self.rng, &self.faults), &mut wishes);
        for wish in wishes {
            match wish {
                hub::Wish::Send(link, packet) => self.send(link, End::Site, packet),
                hub::Wish::Fold(job) => {
                    let wait = self.rng.random_range(10..3000);
                    self.after(wait, What::Folded(self.hub_incarnation, job));
                }
            }
        }
        let Err(Down(why)) = done else { return };
        self.tell(|| format!("coordinator: {why}"));
        self.hub.process = None;
        self.hub_incarnation += 1;
        for link in 0..self.links.len() {
            if std::mem::take(&mut self.links[link].open[End::Hub as usize]) {
                self.links[link].dead = true;
                let wait = self.rng.random_range(0..20_000);
                self.after(wait, What::Break(link, End::Site));
            }
        }
        let wait = self.rng.random_range(100..60_000);
        self.after(wait, What::HubUp);
    }

    fn at_site(
        &mut self,
        site: usize,
        work: impl FnOnce(
            &mut Site,
            (&mut ChaCha8Rng, &Faults),
            &mut Vec<site::Wish>,
        ) -> Result<(), Down>,
    ) {
        let mut wishes = Vec::new();
        let done = work(
            &mut self.sites[site],
            (&mut self.rng, &self.faults),
            &mut wishes,
        );
        for wish in wishes {
            match wish {
                site::Wish::Send(link, packet) => self.send(link, End::Hub, packet),
                site::Wish::TryAgain(link, blob) => {
                    self.after(RETRY_AFTER, What::Waited(site, link, blob));
                }
                site::Wish::Work(task, cancel) => {
                    let hangs = self.rng.random_bool(self.faults.hang);
                    let longest = if hangs { 1_500_000 } else { 30_000 };
                    let wait = self.rng.random_range(100..longest);
                    let incarnation = self.sites[site].incarnation;
                    self.after(wait, What::Worked(site, incarnation, task, cancel));
                }
            }
        }
        let Err(Down(why)) = done else { return };
        self.tell(|| format!("{}: {why}", SITES[site]));
        self.sites[site].kill();
        for link in 0..self.links.len() {
            if self.links[link].site == site
                && std::mem::take(&mut self.links[link].open[End::Site as usize])
            {
                self.links[link].dead = true;
                let wait = self.rng.random_range(0..60_000);
                self.after(wait, What::Break(link, End::Hub));
            }
        }
        let wait = self.rng.random_range(100..120_000);
        self.after(wait, What::SiteUp(site));
    }

    fn is_over(&self) -> bool {
        let finished = self
            .hub
            .process
            .as_ref()
            .is_some_and(|hub| hub.coordinator.is_idle());
        let mut sites = self.sites.iter().enumerate();
        finished && sites.all(|(site, one)| one.is_settled() || self.is_revoked(site))
    }

    fn is_revoked(&self, site: usize) -> bool {
        self.hub
            .trust
            .consortium()
            .active(&self.sites[site].id)
            .is_none()
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            if story.len() == STORY_LINES {
                story.pop_front();
            }
            story.push_back(format!("{:>9.3} {}", self.now as f64 / 1000.0, line()));
        }
    }
}

/// A folder in memory where there is one: what survives a power cut is the journal's own test.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.expect("a folder")
}

const DAY: i64 = 24 * 3600 * 1000;
/// A site's pause before a transfer that failed is tried again, in ms.
const RETRY_AFTER: u64 = 30_000;
const MOST_STEPS: u32 = 50_000;
const STORY_LINES: usize = 400;
