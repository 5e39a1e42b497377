//! The virtual clock and the wires.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coordinator::service::FoldJob;
use protocol::{Digest, Message, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use site_client::federation::Task;

use super::faults::{CALM, Down, Faults, Fuse};
use super::hub::{self, Hub};
use super::scene::{SITES, START, Scene};
use super::site::{self, Site};
use super::verdict::verdict;

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Message(Message),
    /// A blob under the name it was asked for.
    Bytes(Digest, Vec<u8>),
}

/// One end of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Hub,
    Site,
}

struct Link {
    site: usize,
    /// Whether the coordinator's and the site's end are still in use there.
    open: [bool; 2],
    /// Nothing gets through any more, and neither end knows yet.
    dead: bool,
}

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
    scene: &'static Scene,
    story: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(scene: &'static Scene, seed: u64, faults: Faults, told: bool) -> Self {
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
                return verdict(self.scene, &mut self.hub, &self.sites, self.keep_rounds);
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
                for link in 0..self.links.len() {
                    if self.links[link].site == site {
                        self.kill_link(link);
                    }
                }
            }
            What::Jump(by) => {
                self.tell(|| format!("clock jumps by {by} ms"));
                self.skew += by;
            }
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
        self.at_hub(|hub, _, wishes| hub.tick(wall, wishes));
    }

    fn connect(&mut self, site: usize, incarnation: u32) {
        let process = self.sites[site].process.as_ref();
        let idle = process.is_some_and(|process| process.link.is_none());
        if !idle || self.sites[site].incarnation != incarnation {
            return;
        }
        if self.hub.process.is_none() || self.cut_off[site] > self.now {
            let wait = self.rng.random_range(500..20_000);
            return self.after(wait, What::Connect(site, incarnation));
        }
        let link = self.links.len();
        self.links.push(Link {
            site,
            open: [true, true],
            dead: false,
        });
        let id = self.sites[site].id.clone();
        if let Some(old) = self.hub.accepted(&id, link) {
            self.links[old].open[End::Hub as usize] = false;
            self.after(0, What::Break(old, End::Site));
        }
        let wall = self.wall();
        self.tell(|| format!("{}: connected, link {link}", SITES[site]));
        self.at_site(site, |site, _, wishes| {
            site.connected(link, wall, wishes);
            Ok(())
        });
    }

    /// An end of a link finds out that it is broken.
    fn broken(&mut self, link: usize, end: End) {
        if !std::mem::take(&mut self.links[link].open[end as usize]) {
            return;
        }
        let site = self.links[link].site;
        self.tell(|| format!("{}: {end:?} lost link {link}", SITES[site]));
        match end {
            End::Hub => {
                let (wall, id) = (self.wall(), self.sites[site].id.clone());
                self.at_hub(|hub, _, wishes| hub.disconnected(wall, &id, link, wishes));
            }
            End::Site => {
                self.sites[site].disconnected();
                let incarnation = self.sites[site].incarnation;
                let wait = self.rng.random_range(100..5000);
                self.after(wait, What::Connect(site, incarnation));
            }
        }
    }

    /// Nothing gets through a link any more; each end finds out in its own time.
    fn kill_link(&mut self, link: usize) {
        if std::mem::replace(&mut self.links[link].dead, true) {
            return;
        }
        for end in [End::Hub, End::Site] {
            let wait = self.rng.random_range(0..60_000);
            self.after(wait, What::Break(link, end));
        }
    }

    fn send(&mut self, link: usize, to: End, packet: Packet) {
        if self.links[link].dead {
            return;
        }
        if self.rng.random_bool(self.faults.loss) {
            let site = self.links[link].site;
            self.tell(|| format!("{}: lost on link {link}: {}", SITES[site], brief(&packet)));
            return self.kill_link(link);
        }
        let copies = 1 + u32::from(self.rng.random_bool(self.faults.double));
        for _ in 0..copies {
            let mut packet = packet.clone();
            if let Packet::Bytes(_, bytes) = &mut packet
                && self.rng.random_bool(self.faults.damage)
            {
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1;
            }
            let wait = self.rng.random_range(1..=self.faults.delay);
            self.after(wait, What::Arrive(link, to, packet));
        }
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
        finished && self.sites.iter().all(Site::is_settled)
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

fn brief(packet: &Packet) -> String {
    match packet {
        Packet::Message(Message::Rejection(rejection)) => {
            format!("Rejection: {}", rejection.reason)
        }
        Packet::Message(Message::Task(task)) => format!("Task {:?} {}", task.work, task.round),
        Packet::Message(Message::Manifest(signed)) => {
            let manifest = signed.open(|_, _, _| true);
            manifest.map_or_else(
                |_| "Manifest".to_owned(),
                |one| format!("Manifest {}", one.round),
            )
        }
        Packet::Message(message) => message.name().to_owned(),
        Packet::Bytes(blob, _) => format!("bytes of {blob:.8}"),
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
