//! Blobs from sites to a coordinator over loopback, beside raw quinn in the same run.
//!
//! ```text
//! cargo bench --profile release -p transport --bench loopback [-- SITES MEGABYTES REPEATS]
//! ```
//!
//! Each site is a process of its own. A blob counts from the start signal until the receipt of the
//! last site: mutual TLS, verification at both ends, fsync and rename are in it. Raw quinn moves as
//! many bytes between the same processes with the same certificates and windows, from memory to
//! nowhere. Each transfer has a coordinator's process of its own: its peak memory is given, its
//! program included.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no figure")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use certs::{Approval, AuthorityHome, Home, Identity, Pin, Trust, tls};
use protocol::message::Manifest;
use protocol::transfer::{BlobRef, CHUNK_LEN};
use protocol::{CloseCode, Message, Role, Spoken};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::time_provider::DefaultTimeProvider;
use transport::{
    BlobStore, Config, Connector, Link, Listener, PathChoice, receive_blob, send_blob,
};

mod gauge;
#[path = "../tests/harness/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod harness;

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Way {
    RawQuinn,
    Quic,
    Tcp,
}

impl Way {
    const ALL: [Self; 3] = [Self::RawQuinn, Self::Quic, Self::Tcp];

    fn parse(text: &str) -> Self {
        let named = |way: &Self| format!("{way:?}") == text;
        Self::ALL.into_iter().find(named).unwrap()
    }
}

fn main() {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    arguments.retain(|argument| argument != "--bench");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.first().map(String::as_str) {
        Some("site") => runtime.block_on(site(&arguments[1..])),
        Some("coordinator") => runtime.block_on(coordinator(&arguments[1..])),
        _ => compare(&arguments),
    }
}

fn compare(arguments: &[String]) {
    let number = |at: usize, default: u64| {
        arguments
            .get(at)
            .map_or(default, |text| text.parse().unwrap())
    };
    let (sites, bytes, repeats) = (number(0, 1), number(1, 344) * 1_000_000, number(2, 3));
    let folder = tempfile::tempdir().unwrap();
    found(folder.path(), sites);
    println!(
        "{sites} sites at once, {bytes} bytes each, {} processors",
        std::thread::available_parallelism().unwrap()
    );
    println!("disk alone: {:.0} MiB/s", disk(folder.path(), bytes));
    for repeat in 0..repeats {
        for way in Way::ALL {
            let status = Command::new(std::env::current_exe().unwrap())
                .arg("coordinator")
                .arg(folder.path())
                .arg(format!("{way:?}"))
                .args([sites, bytes, repeat].map(|number| number.to_string()))
                .status();
            assert!(status.unwrap().success());
        }
    }
}

/// A consortium in a folder, so that processes can share it.
fn found(folder: &Path, sites: u64) {
    let home = AuthorityHome::new(folder.join("coordinator"));
    let now = harness::now();
    let (consortium, name) = ("headct".parse().unwrap(), "hub".parse().unwrap());
    let authority = home.found(consortium, &name, None, now).unwrap();
    let pin: Pin = authority.root().fingerprint().into();
    for site in 0..sites {
        let name = format!("site-{site}");
        let member = Home::new(folder.join(&name));
        let request = member.enroll(&name.parse().unwrap(), &pin, None).unwrap();
        let approval = home.approve(&request, Role::Site, None, now).unwrap();
        let approval = Approval::read(&std::fs::read(approval).unwrap()).unwrap();
        member.accept(&approval, now).unwrap();
    }
}

/// The coordinator's process: takes one blob from every site.
async fn coordinator(arguments: &[String]) {
    let [folder, way, sites, bytes, repeat] = arguments else {
        panic!("FOLDER WAY SITES BYTES REPEAT")
    };
    let scene = Scene::open(Path::new(folder), sites.parse().unwrap());
    let (way, repeat) = (Way::parse(way), repeat.parse().unwrap());
    let figures = scene.measure(way, bytes.parse().unwrap(), repeat).await;
    println!("{repeat} {way:>9?} {figures}");
}

/// What a coordinator's process works with.
struct Scene {
    folder: PathBuf,
    sites: u64,
    identity: Arc<Identity>,
    trust: Trust,
}

impl Scene {
    fn open(folder: &Path, sites: u64) -> Self {
        let home = AuthorityHome::new(folder.join("coordinator"));
        let (identity, trust) = home.home().open(None).unwrap();
        Self {
            folder: folder.to_owned(),
            sites,
            identity: Arc::new(identity),
            trust,
        }
    }

    async fn measure(&self, way: Way, bytes: u64, repeat: u64) -> Figures {
        let sink = self.folder.join("sink");
        let _ = std::fs::remove_dir_all(&sink);
        let store = BlobStore::open(&sink).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (identity, trust) = (Arc::clone(&self.identity), self.trust.clone());
        let (address, mut receiver) = match way {
            Way::RawQuinn => {
                let endpoint = raw_server(&identity, &trust);
                let address = endpoint.local_addr().unwrap();
                (address, Receiver::Raw(endpoint))
            }
            Way::Quic | Way::Tcp => {
                let listener = Listener::bind(any, Config::default(), identity, trust)
                    .await
                    .unwrap();
                (listener.local_addr(), Receiver::Ours(listener))
            }
        };
        let mut sites: Vec<_> = (0..self.sites)
            .map(|site| Site::start(&self.folder, site, way, address, bytes, repeat))
            .collect();
        for site in &mut sites {
            assert_eq!(site.hear(), "ready");
        }
        gauge::reset_peak();
        let (cpu, start) = (gauge::cpu_seconds(), Instant::now());
        for site in &mut sites {
            site.commands.write_all(b"go\n").unwrap();
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.sites {
            match &mut receiver {
                Receiver::Raw(endpoint) => {
                    let incoming = endpoint.accept().await.unwrap();
                    tasks.spawn(async move { raw_receive(incoming.await.unwrap(), bytes).await });
                }
                Receiver::Ours(listener) => {
                    let (link, store) = (listener.accept().await, store.clone());
                    tasks.spawn(async move { take(&link, &store).await });
                }
            }
        }
        tasks.join_all().await;
        // A site is done once it holds the receipt.
        let theirs: f64 = sites.iter_mut().map(|site| site.done()).sum();
        let seconds = start.elapsed().as_secs_f64();
        let cpu = gauge::cpu_seconds() - cpu + theirs;
        let peak = gauge::peak_bytes();
        let total = (bytes * self.sites) as f64;
        Figures {
            mib_per_second: total / f64::from(1 << 20) / seconds,
            cpu_per_gb: cpu / total * 1e9,
            peak,
        }
    }
}

enum Receiver {
    Raw(quinn::Endpoint),
    Ours(Listener),
}

struct Figures {
    mib_per_second: f64,
    cpu_per_gb: f64,
    peak: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:7.1} MiB/s, {:5.2} CPU s per GB, coordinator's peak memory {:5.1} MiB",
            self.mib_per_second,
            self.cpu_per_gb,
            self.peak as f64 / f64::from(1 << 20)
        )
    }
}

/// A site's process, as the coordinator sees it.
struct Site {
    child: Child,
    commands: ChildStdin,
    words: BufReader<ChildStdout>,
}

impl Site {
    fn start(
        folder: &Path,
        site: u64,
        way: Way,
        address: SocketAddr,
        bytes: u64,
        repeat: u64,
    ) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("site")
            .arg(folder.join(format!("site-{site}")))
            .args([format!("{way:?}"), address.to_string(), bytes.to_string()])
            .arg((1000 * repeat + site).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            commands: child.stdin.take().unwrap(),
            words: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.words.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for the end of its transfer: CPU seconds it took.
    fn done(&mut self) -> f64 {
        let cpu = self.hear().parse().unwrap();
        self.child.wait().unwrap();
        cpu
    }
}

/// The other process: sends one blob when told to.
async fn site(arguments: &[String]) {
    let [home, way, address, bytes, seed] = arguments else {
        panic!("HOME WAY ADDRESS BYTES SEED")
    };
    let (identity, trust) = Home::new(home).open(None).unwrap();
    let (identity, bytes) = (Arc::new(identity), bytes.parse().unwrap());
    let store = BlobStore::open(Path::new(home).join("store")).unwrap();
    store.collect(&Default::default()).unwrap();
    let blob = fill(&store, bytes, seed.parse().unwrap());
    println!("ready");
    std::io::stdin()
        .lock()
        .read_line(&mut String::new())
        .unwrap();
    let cpu = gauge::cpu_seconds();
    if way == "RawQuinn" {
        raw_send(address.parse().unwrap(), &identity, &trust, bytes).await;
    } else {
        let path = match way.as_str() {
            "Tcp" => PathChoice::Tcp,
            _ => PathChoice::Quic,
        };
        let config = Config {
            path,
            ..Config::default()
        };
        let connector =
            Connector::new(address.clone(), config, Arc::clone(&identity), trust).unwrap();
        let link = connector.connect().await.unwrap();
        let manifest = harness::manifest(blob, &identity);
        let blob = store.blob(blob.digest).unwrap();
        send_blob(&link, &blob, &manifest, |_| {}).await.unwrap();
        // The coordinator ends it. A process that is gone before would leave it waiting.
        link.ended().await;
    }
    println!("{}", gauge::cpu_seconds() - cpu);
}

fn fill(store: &BlobStore, bytes: u64, seed: u64) -> BlobRef {
    let mut writer = store.writer().unwrap();
    for chunk in 0..bytes.div_ceil(CHUNK_LEN) {
        let len = CHUNK_LEN.min(bytes - chunk * CHUNK_LEN);
        let part = harness::bytes(len as usize, seed << 32 | chunk);
        writer.write_all(&part).unwrap();
    }
    writer.finish().unwrap()
}

async fn take(link: &Link, store: &BlobStore) {
    let Message::Manifest(signed) = link.receive().await.unwrap() else {
        panic!("not a manifest")
    };
    let manifest: Manifest = link.open(&signed).unwrap();
    receive_blob(link, store, manifest.blob, |_| {})
        .await
        .unwrap();
    link.finish(CloseCode::Done).await;
}

fn windows() -> Arc<quinn::TransportConfig> {
    let config = Config::default();
    let mib = |mib: u32| quinn::VarInt::from_u32(mib << 20);
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_uni_streams(quinn::VarInt::from_u32(config.chunks_in_flight))
        .stream_receive_window(mib(config.stream_window_mib))
        .receive_window(mib(config.connection_window_mib))
        .send_window(u64::from(config.send_window_mib) << 20)
        .send_fairness(false);
    Arc::new(transport)
}

fn raw_socket() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let buffer = (Config::default().udp_buffer_mib as usize) << 20;
    let handle = socket2::SockRef::from(&socket);
    handle.set_recv_buffer_size(buffer).unwrap();
    handle.set_send_buffer_size(buffer).unwrap();
    socket
}

fn raw_server(identity: &Identity, trust: &Trust) -> quinn::Endpoint {
    let alpn = Spoken::default().alpn();
    let tls = tls::server_config(identity, trust, Arc::new(DefaultTimeProvider), alpn).unwrap();
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(windows());
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(config),
        raw_socket(),
        runtime,
    )
    .unwrap()
}

async fn raw_receive(connection: quinn::Connection, bytes: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..bytes.div_ceil(CHUNK_LEN) {
        let mut stream = connection.accept_uni().await.unwrap();
        tasks.spawn(async move {
            while let Some(read) = stream.read_chunk(usize::MAX, true).await.unwrap() {
                std::hint::black_box(read.bytes);
            }
        });
    }
    tasks.join_all().await;
    let mut receipt = connection.open_uni().await.unwrap();
    receipt.write_all(b"receipt").await.unwrap();
    receipt.finish().unwrap();
    connection.closed().await;
}

async fn raw_send(address: SocketAddr, identity: &Identity, trust: &Trust, bytes: u64) {
    let alpn = Spoken::default().alpn();
    let tls = tls::client_config(identity, trust, Arc::new(DefaultTimeProvider), alpn).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(windows());
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        raw_socket(),
        runtime,
    )
    .unwrap();
    let name = certs::server_name(trust.consortium().id());
    let connection = endpoint
        .connect_with(config, address, &name)
        .unwrap()
        .await
        .unwrap();
    let chunk = bytes::Bytes::from(harness::bytes(CHUNK_LEN as usize, 1));
    for index in 0..bytes.div_ceil(CHUNK_LEN) {
        let len = CHUNK_LEN.min(bytes - index * CHUNK_LEN) as usize;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_chunk(chunk.slice(..len)).await.unwrap();
        stream.finish().unwrap();
    }
    let mut receipt = connection.accept_uni().await.unwrap();
    receipt.read_to_end(64).await.unwrap();
    connection.close(quinn::VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
}

/// MiB/s of writing and syncing as many bytes, with nothing else.
fn disk(folder: &Path, bytes: u64) -> f64 {
    let path = folder.join("disk");
    let mut file = std::fs::File::create(&path).unwrap();
    let start = Instant::now();
    let part = vec![0xa5; CHUNK_LEN as usize];
    for _ in 0..bytes.div_ceil(CHUNK_LEN) {
        file.write_all(&part).unwrap();
    }
    file.sync_all().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    bytes as f64 / f64::from(1 << 20) / seconds
}
