//! A coordinator and sites as real processes, in a folder that can be copied.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use assert_cmd::cargo::cargo_bin;
use certs::{Approval, AuthorityHome, Home, Pin};
use coordinator::blobs::Blobs;
use coordinator::journal::Journal;
use coordinator::service::{
    self, Initial, blobs_path, export_model, launch, replay, trust, verify,
};
use protocol::plan::Plan;
use protocol::{Digest, Params, Role, RunId, Timestamp};
use rusqlite::Connection;

/// What a network is to be like.
pub(crate) struct Setting {
    /// Sites, all of which train.
    pub(crate) sites: Vec<String>,
    /// The first checkpoint.
    pub(crate) first: Params,
    /// The plan without its first line, `initial`, and its cohort.
    pub(crate) plan: String,
    /// Settings of every connection.
    pub(crate) transport: String,
}

/// Everybody's files.
pub(crate) struct Network {
    folder: tempfile::TempDir,
    address: SocketAddr,
    sites: Vec<String>,
}

/// A process that ends with the test at the latest.
pub(crate) struct Process(Child);

impl Network {
    /// A consortium with a run launched, nothing started yet.
    pub(crate) fn found(setting: &Setting) -> Self {
        let Setting {
            sites,
            first: params,
            plan,
            transport,
        } = setting;
        let folder = tempfile::tempdir().expect("a folder");
        let now = now();
        let home = folder.path().join("coordinator");
        let authority = AuthorityHome::new(&home);
        let name = "network".parse().expect("a name");
        let root = authority
            .found(name, &"coordinator".parse().expect("a name"), None, now)
            .expect("a consortium")
            .root()
            .fingerprint();
        let told: Pin = root.to_string().parse().expect("our own fingerprint");
        for site in sites {
            let site_home = Home::new(folder.path().join(site));
            let id = site.parse().expect("a name");
            let request = site_home.enroll(&id, &told, None).expect("a request");
            let answer = authority.approve(&request, Role::Site, None, now);
            let answer = fs::read(answer.expect("approval")).expect("the answer");
            let answer = Approval::read(&answer).expect("our own answer");
            site_home.accept(&answer, now).expect("our own answer");
        }
        let first = folder.path().join(FIRST);
        fs::write(&first, params.to_safetensors()).expect("a file");
        fs::write(folder.path().join(SETTINGS), transport).expect("a file");
        let initial = Initial::open(&first).expect("our own file");
        let text = format!(
            "initial = \"{}\"\n{plan}\n[cohort]\nrule = \"full\"\nsites = {sites:?}\n",
            initial.digest()
        );
        let plan = Plan::parse(text.as_bytes()).expect("a plan");
        let (identity, _) = authority.home().open(None).expect("our own home");
        let mut journal = Journal::open_shared(&home).expect("a journal");
        let blobs = Blobs::open_shared(blobs_path(&home)).expect("a folder");
        launch(
            &mut journal,
            &blobs,
            &identity,
            &run(),
            &plan,
            &initial,
            now,
        )
        .expect("a launch");
        Self {
            folder,
            address: free_address(),
            sites: sites.clone(),
        }
    }

    /// The same network in another folder, at another address.
    pub(crate) fn copy(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy_tree(self.folder.path(), folder.path());
        Self {
            folder,
            address: free_address(),
            sites: self.sites.clone(),
        }
    }

    /// Starts the coordinator; it ends when the run is finished.
    pub(crate) fn serve(&self, more: &[&str]) -> Process {
        let mut command = Command::new(cargo_bin("fmct-coordinator"));
        command.args(["serve", "--until-idle", "--http", "127.0.0.1:0", "--listen"]);
        command.arg(self.address.to_string()).args(more);
        command.arg("--dir").arg(self.coordinator());
        command
            .arg("--transport")
            .arg(self.folder.path().join(SETTINGS));
        self.start(command, "coordinator")
    }

    /// Starts every site; each ends when the run is finished.
    pub(crate) fn start_sites(&self) -> Vec<Process> {
        self.sites
            .iter()
            .map(|site| self.start_site(site))
            .collect()
    }

    /// Starts one site.
    pub(crate) fn start_site(&self, site: &str) -> Process {
        let mut command = Command::new(cargo_bin("fmct-site"));
        command.args(["stand-in", "--until-finished", "--coordinator"]);
        command.arg(self.address.to_string());
        command.arg("--dir").arg(self.folder.path().join(site));
        command.arg("--initial").arg(self.folder.path().join(FIRST));
        command
            .arg("--transport")
            .arg(self.folder.path().join(SETTINGS));
        self.start(command, site)
    }

    fn start(&self, mut command: Command, name: &str) -> Process {
        let log = self.folder.path().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        Process(child.expect("the program, built by `cargo test --release --workspace`"))
    }

    /// What a process has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        let path = self.folder.path().join(format!("{name}.log"));
        fs::read_to_string(path).expect("a log")
    }

    /// How many events the journal holds.
    pub(crate) fn events(&self) -> u64 {
        let count = "SELECT count(*) FROM events";
        let count: i64 = self
            .database()
            .query_row(count, [], |row| row.get(0))
            .expect("the journal's database");
        count.unsigned_abs()
    }

    /// Digest of the exported model.
    pub(crate) fn final_model(&self) -> Digest {
        let out = self.folder.path().join("final.safetensors");
        export_model(
            &self.coordinator(),
            &run(),
            None,
            service::Network::Evaluated,
            &out,
        )
        .expect("a finished run");
        Digest::of(&fs::read(out).expect("the exported model"))
    }

    /// Checks chain, signatures and receipts, and computes every model again.
    pub(crate) fn verify(&self, rounds: u64) {
        let trust = trust(&self.coordinator()).expect("our own home");
        let verified = verify(&self.coordinator(), &trust, &run()).expect("a sound transcript");
        let updates = self.sites.len() as u64 * rounds;
        assert_eq!((verified.receipts, verified.records), (updates, rounds));
        let replayed = replay(&self.coordinator(), &run(), |_, _| {}).expect("the same models");
        assert_eq!(u64::from(replayed.rounds), rounds);
    }

    /// A connection to the journal's database, beside the coordinator's.
    pub(crate) fn database(&self) -> Connection {
        let database = Connection::open(self.coordinator().join("journal.sqlite"));
        database.expect("the journal's database")
    }

    /// The coordinator's folder.
    pub(crate) fn coordinator(&self) -> PathBuf {
        self.folder.path().join("coordinator")
    }
}

impl Process {
    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("a process that runs");
        self.0.wait().expect("our own child");
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("our own child")
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The one run.
pub(crate) fn run() -> RunId {
    "network-1".parse().expect("a name")
}

/// An address that is free over UDP and TCP, and stays the coordinator's over its restarts: below
/// the ports that outgoing connections are given.
fn free_address() -> SocketAddr {
    loop {
        let port = rand::random_range(20_000..32_000);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a folder");
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file");
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("a clock after 1970");
    Timestamp(u64::try_from(since.as_millis()).expect("a clock before the end of time"))
}

const FIRST: &str = "first.safetensors";
const SETTINGS: &str = "transport.toml";
