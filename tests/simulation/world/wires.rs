//! Links between sites and the coordinator, and what becomes of packets on them.

use protocol::{Digest, Message};
use rand::RngExt;

use super::super::scene::SITES;
use super::{What, World};

/// What travels.
#[derive(Clone, Debug)]
pub(in super::super) enum Packet {
    Message(Message),
    /// A blob under the name it was asked for.
    Bytes(Digest, Vec<u8>),
}

/// One end of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Hub,
    Site,
}

pub(super) struct Link {
    pub(super) site: usize,
    /// Whether the coordinator's and the site's end are still in use there.
    pub(super) open: [bool; 2],
    /// Nothing gets through any more, and neither end knows yet.
    pub(super) dead: bool,
}

impl World {
    pub(super) fn connect(&mut self, site: usize, incarnation: u32) {
        let process = self.sites[site].process.as_ref();
        let idle = process.is_some_and(|process| process.link.is_none());
        if !idle || self.sites[site].incarnation != incarnation {
            return;
        }
        if self.is_revoked(site) {
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
    pub(super) fn broken(&mut self, link: usize, end: End) {
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

    pub(super) fn kill_links(&mut self, site: usize) {
        for link in 0..self.links.len() {
            if self.links[link].site == site {
                self.kill_link(link);
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

    pub(super) fn send(&mut self, link: usize, to: End, packet: Packet) {
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
}

pub(super) fn brief(packet: &Packet) -> String {
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
