//! The federated run as processes: one coordinator, one process for each hospital, each started
//! again when something kills it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use protocol::SiteId;

use crate::consortium::Consortium;
use crate::process::{Process, threads_each};
use crate::relay::Relay;

/// Runs until the coordinator says that the run is finished; returns the bytes that each hospital
/// sent over the wire.
pub(crate) fn run(
    dir: &Path,
    sites: &[SiteId],
    kill_one: bool,
    say: &dyn Fn(&str),
) -> anyhow::Result<BTreeMap<SiteId, u64>> {
    let mut cast = Cast::start(dir, sites)?;
    let mut kill = kill_one;
    while !cast.watch(say)? {
        for line in cast.coordinator.lines() {
            say(&line);
            if kill && line.contains(KILL_WHEN) {
                kill = false;
                cast.coordinator.kill()?;
                if let Some(member) = cast.members.get_mut(&sites[0]) {
                    member.process.kill()?;
                }
            }
        }
        thread::sleep(POLL);
    }
    cast.end()
}

struct Cast<'a> {
    dir: &'a Path,
    address: SocketAddr,
    coordinator: Process,
    members: BTreeMap<SiteId, Member>,
}

struct Member {
    process: Process,
    relay: Relay,
}

impl<'a> Cast<'a> {
    fn start(dir: &'a Path, sites: &[SiteId]) -> anyhow::Result<Self> {
        // A loopback address that nobody listens on.
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let coordinator = coordinator(dir, address)?;
        let mut members = BTreeMap::new();
        for site in sites {
            let relay = Relay::start(address)?;
            let process = member(dir, site, relay.address(), sites.len())?;
            members.insert(site.clone(), Member { process, relay });
        }
        Ok(Self {
            dir,
            address,
            coordinator,
            members,
        })
    }

    /// Starts again what was killed. Whether the run is finished.
    fn watch(&mut self, say: &dyn Fn(&str)) -> anyhow::Result<bool> {
        if let Some(status) = self.coordinator.ended()? {
            if status.success() {
                return Ok(true);
            }
            ensure!(was_killed(status), self.coordinator.failure(status));
            self.coordinator = coordinator(self.dir, self.address)?;
            say("the coordinator was killed, and starts again");
        }
        let hospitals = self.members.len();
        for (site, member) in &mut self.members {
            let Some(status) = member.process.ended()? else {
                continue;
            };
            // A hospital that was told that the run is finished has ended well.
            if status.success() {
                continue;
            }
            ensure!(was_killed(status), member.process.failure(status));
            member.process = self::member(self.dir, site, member.relay.address(), hospitals)?;
            say(&format!("{site} was killed, and starts again"));
        }
        Ok(false)
    }

    /// Hospitals end by themselves when they hear that the run is finished; one that was killed at
    /// that very moment will not hear it any more.
    fn end(mut self) -> anyhow::Result<BTreeMap<SiteId, u64>> {
        let started = Instant::now();
        let mut sent = BTreeMap::new();
        for (site, member) in &mut self.members {
            while member.process.ended()?.is_none() && started.elapsed() < GRACE {
                thread::sleep(POLL);
            }
            sent.insert(site.clone(), member.relay.bytes_out());
        }
        Ok(sent)
    }
}

fn coordinator(dir: &Path, address: SocketAddr) -> anyhow::Result<Process> {
    start(
        dir,
        "coordinator",
        &["serve", &dir.display().to_string(), &address.to_string()],
        1,
    )
}

fn member(
    dir: &Path,
    site: &SiteId,
    relay: SocketAddr,
    hospitals: usize,
) -> anyhow::Result<Process> {
    let (folder, relay) = (dir.display().to_string(), relay.to_string());
    let arguments = ["member", &folder, site.as_str(), &relay];
    start(dir, site.as_str(), &arguments, hospitals)
}

fn start(
    dir: &Path,
    name: &str,
    arguments: &[&str],
    side_by_side: usize,
) -> anyhow::Result<Process> {
    let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
    let log = Consortium::at(dir).log(name);
    Process::start(name, &arguments, &log, threads_each(side_by_side))
}

/// By a signal, rather than by an error of its own.
fn was_killed(status: ExitStatus) -> bool {
    status.code().is_none()
}

const POLL: Duration = Duration::from_millis(20);

/// How long hospitals have to end after the run.
const GRACE: Duration = Duration::from_secs(5);

/// The line at which `--kill-one` strikes: in the middle of the second round.
const KILL_WHEN: &str = "1 done";
