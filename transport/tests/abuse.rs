//! Strangers and members that mean harm: what they cost, and that others do not notice.
//!
//! A binary of its own, whose tests take turns: each measures the memory of the whole process,
//! attackers included.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use certs::{Identity, server_name, tls};
use protocol::codec::MAX_FRAME_LEN;
use protocol::message::{Manifest, Want};
use protocol::transfer::{CHUNK_LEN, ChunkHeader};
use protocol::{BlobRef, CloseCode, Digest, Message, Role, Spoken, Version, codec};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use transport::{
    BlobStore, Config, Connector, Link, LinkError, Listener, PathChoice, receive_blob, send_blob,
};

use harness::relay::{Relay, Weather};
use harness::{Consortium, bytes, manifest};

#[path = "../benches/gauge/mod.rs"]
#[expect(dead_code, reason = "shared with the benchmarks, which use all of it")]
mod gauge;
#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
mod harness;

static TURN: Mutex<()> = Mutex::const_new(());
const PATHS: [PathChoice; 2] = [PathChoice::Quic, PathChoice::Tcp];
const NEWCOMERS: usize = 10;
const MIB: u64 = 1 << 20;
/// What the coordinator keeps at most of packets of handshakes that it has not begun.
const WAITING_MIB: u64 = 16;
/// What one handshake may take: half of it goes for the buffers of TLS.
const HANDSHAKE_KIB: u64 = 64;
/// What an endpoint of quinn receives into: 32 times 64 packets.
const RECEIVE_MIB: u64 = 3;
const HONEST_MIB: u64 = 8;
/// Loopback addresses that attackers come from; honest sites come from 127.0.0.1.
const ATTACKERS: [[u8; 4]; 2] = [[127, 0, 0, 2], [127, 0, 0, 3]];

/// A coordinator, an honest site that is connected, and honest sites that are not yet.
struct Scene {
    consortium: Consortium,
    listener: Listener,
    site: Link,
    hub: Link,
    /// Whose link it is.
    identity: Arc<Identity>,
    newcomers: Vec<Arc<Identity>>,
}

impl Scene {
    async fn new() -> Self {
        let mut consortium = Consortium::found();
        let identity = consortium.enroll("north", Role::Site);
        let newcomers = (0..NEWCOMERS)
            .map(|index| consortium.enroll(&format!("newcomer-{index}"), Role::Site))
            .collect();
        let mut listener = consortium.listen(Config::default()).await;
        let known = Arc::clone(&identity);
        let (site, hub) = connect(&consortium, &mut listener, known, PathChoice::Quic).await;
        Self {
            consortium,
            listener,
            site,
            hub,
            identity,
            newcomers,
        }
    }

    /// The link that was there before still carries messages, both ways.
    async fn talk(&self) {
        let want = Want {
            blob: Digest::of(b"any"),
        };
        self.site.send(want).await.unwrap();
        assert_eq!(self.hub.receive().await, Ok(Message::Want(want)));
        self.hub.send(want).await.unwrap();
        assert_eq!(self.site.receive().await, Ok(Message::Want(want)));
    }

    /// One more honest site gets in, at its first attempt.
    async fn newcomer(&mut self, path: PathChoice) {
        let identity = self.newcomers.pop().unwrap();
        let id = identity.id().clone();
        let (site, hub) = connect(&self.consortium, &mut self.listener, identity, path).await;
        assert_eq!(
            (hub.peer().id(), site.peer().role()),
            (&id, Role::Coordinator)
        );
    }
}

async fn connect(
    consortium: &Consortium,
    listener: &mut Listener,
    identity: Arc<Identity>,
    path: PathChoice,
) -> (Link, Link) {
    let config = Config {
        path,
        ..Config::default()
    };
    let target = listener.local_addr().to_string();
    let connector = Connector::new(target, config, identity, consortium.trust()).unwrap();
    let (site, hub) = tokio::join!(connector.connect(), listener.accept());
    (site.unwrap(), hub)
}

/// TLS settings of somebody without a certificate.
fn nobody(consortium: &Consortium) -> rustls::ClientConfig {
    let alpn = Spoken::default().alpn();
    let (identity, trust) = (&consortium.coordinator, consortium.trust());
    let clock = Arc::new(DefaultTimeProvider);
    let mut config = tls::client_config(identity, &trust, clock, alpn).unwrap();
    config.client_auth_cert_resolver = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
        .client_auth_cert_resolver;
    config
}

fn quic(config: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

fn name(consortium: &Consortium) -> String {
    server_name(consortium.trust().consortium().id())
}

/// Bytes that were resident at most, above what was resident when it began.
struct Memory {
    before: u64,
}

impl Memory {
    fn start() -> Self {
        gauge::reset_peak();
        Self {
            before: gauge::peak_bytes(),
        }
    }

    fn growth_mib(&self) -> u64 {
        gauge::peak_bytes().saturating_sub(self.before) / MIB
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_handshakes_of_strangers_take_no_more_than_the_first_thousand() {
    let _turn = TURN.lock().await;
    let mut scene = Scene::new().await;
    let memory = Memory::start();
    let mut crowd = crowd(&scene, 0..1_000);
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
    let first = memory.growth_mib();

    let mut crowd = self::crowd(&scene, 1_000..10_000);
    // All the while, those who belong come and talk.
    for newcomer in 0..NEWCOMERS {
        scene.talk().await;
        scene.newcomer(PATHS[newcomer % 2]).await;
    }
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
        scene.talk().await;
    }
    // The newcomers' ends are here too: each has buffers for what one receive call may bring.
    let newcomers = NEWCOMERS as u64 * RECEIVE_MIB;
    let all = memory.growth_mib();
    assert!(all <= first + newcomers, "{all} MiB, after {first} MiB");
}

/// Strangers who try to get in, one attempt after the other, some at once.
fn crowd(scene: &Scene, attempts: Range<usize>) -> JoinSet<()> {
    const AT_ONCE: usize = 32;
    let (address, name) = (scene.listener.local_addr(), name(&scene.consortium));
    let (tcp, udp) = (
        Arc::new(nobody(&scene.consortium)),
        quic(nobody(&scene.consortium)),
    );
    let mut crowd = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (udp, name) = (udp.clone(), name.clone());
        let tcp = TlsConnector::from(Arc::clone(&tcp));
        let from = SocketAddr::from((ATTACKERS[worker % 2], 0));
        let attempts = attempts.clone().skip(worker).step_by(AT_ONCE);
        crowd.spawn(async move {
            let endpoint = quinn::Endpoint::client(from).unwrap();
            for attempt in attempts {
                if attempt % 10 == 0 {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind(from).unwrap();
                    let Ok(stream) = socket.connect(address).await else {
                        continue;
                    };
                    let server = ServerName::try_from(name.clone()).unwrap();
                    if let Ok(mut stream) = tcp.connect(server, stream).await {
                        assert!(stream.read_u8().await.is_err(), "a stranger was answered");
                    }
                } else {
                    let connecting = endpoint.connect_with(udp.clone(), address, &name);
                    if let Ok(connection) = connecting.unwrap().await {
                        let closed = connection.closed().await;
                        let refused = matches!(closed, quinn::ConnectionError::ConnectionClosed(_));
                        assert!(refused, "{closed}");
                    }
                }
            }
        });
    }
    crowd
}

/// A QUIC client that says no more than its first packets, and those that prove its address.
struct Mute {
    endpoint: quinn_proto::Endpoint,
    connection: quinn_proto::Connection,
    socket: tokio::net::UdpSocket,
    server: SocketAddr,
}

impl Mute {
    async fn new(
        config: quinn::ClientConfig,
        from: SocketAddr,
        server: SocketAddr,
        name: &str,
    ) -> Self {
        let settings = Arc::new(quinn_proto::EndpointConfig::default());
        let mut endpoint = quinn_proto::Endpoint::new(settings, None, true, None);
        let (_, connection) = endpoint
            .connect(Instant::now(), config, server, name)
            .unwrap();
        Self {
            endpoint,
            connection,
            socket: tokio::net::UdpSocket::bind(from).await.unwrap(),
            server,
        }
    }

    /// Sends what it has to say.
    async fn send(&mut self) {
        let mut packet = Vec::new();
        while let Some(transmit) = self
            .connection
            .poll_transmit(Instant::now(), 1, &mut packet)
        {
            let sent = self.socket.send_to(&packet[..transmit.size], self.server);
            sent.await.unwrap();
            packet.clear();
        }
    }

    /// Whether the coordinator's answer is that it must prove its address; does so.
    async fn proves(&mut self) -> bool {
        let mut packet = vec![0; 65_536];
        let len = self.socket.recv(&mut packet).await.unwrap();
        // RFC 9000, section 17.2.5: a long header of type 3.
        let is_retry = packet[0] & 0xf0 == 0xf0;
        let (now, server) = (Instant::now(), self.server);
        let event = self.endpoint.handle(
            now,
            server,
            None,
            None,
            bytes::BytesMut::from(&packet[..len]),
            &mut Vec::new(),
        );
        if let Some(quinn_proto::DatagramEvent::ConnectionEvent(_, event)) = event
            && is_retry
        {
            self.connection.handle_event(event);
            self.send().await;
        }
        is_retry
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_begin_and_say_no_more_keep_nobody_out() {
    const STRANGERS: usize = 400;
    let _turn = TURN.lock().await;
    let mut scene = Scene::new().await;
    let (address, name) = (scene.listener.local_addr(), name(&scene.consortium));
    let udp = quic(nobody(&scene.consortium));
    let memory = Memory::start();
    let mut held: Vec<TcpStream> = Vec::new();
    let mut mutes = Vec::new();
    for stranger in 0..STRANGERS {
        let from = SocketAddr::from((ATTACKERS[stranger % 2], 0));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        if let Ok(mut stream) = socket.connect(address).await {
            // The beginning of a TLS record, or nothing at all.
            let _ = stream.write_all(&[22, 3, 1][..stranger % 4]).await;
            held.push(stream);
        }
        let mut mute = Mute::new(udp.clone(), from, address, &name).await;
        mute.send().await;
        mutes.push(mute.socket);
    }
    // Well within the time that a handshake may take, so they are all still there.
    for path in PATHS {
        scene.talk().await;
        scene.newcomer(path).await;
    }
    // What the settings allow: packets that wait, and the handshakes under way on both paths.
    let handshakes = u64::from(Config::default().max_handshakes);
    let allowed = WAITING_MIB + 2 * handshakes * HANDSHAKE_KIB / 1024;
    let growth = memory.growth_mib();
    assert!(growth <= allowed, "{growth} MiB of {allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_prove_two_addresses_and_say_no_more_keep_nobody_out() {
    let _turn = TURN.lock().await;
    let mut scene = Scene::new().await;
    let (address, name) = (scene.listener.local_addr(), name(&scene.consortium));
    let udp = quic(nobody(&scene.consortium));
    let handshakes = Config::default().max_handshakes as usize;
    let mut mutes = Vec::new();
    let mut proven = 0;
    while proven < 2 * handshakes {
        let from = SocketAddr::from((ATTACKERS[mutes.len() % 2], 0));
        let mut mute = Mute::new(udp.clone(), from, address, &name).await;
        mute.send().await;
        proven += usize::from(mute.proves().await);
        mutes.push(mute);
    }
    // Those whose addresses nobody asked for came first, and got what is for them.
    assert!(mutes.len() - proven >= handshakes / 4, "{}", mutes.len());
    // Well within the time that a handshake may take, so they are all still there.
    scene.talk().await;
    scene.newcomer(PathChoice::Quic).await;
}

/// A member's certificate, in hands that do not keep the rules.
struct Hostile {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    control: quinn::SendStream,
}

impl Hostile {
    async fn connect(scene: &mut Scene, address: SocketAddr) -> (Self, Link) {
        let identity = scene.newcomers.pop().unwrap();
        let alpn = Spoken::default().alpn();
        let trust = scene.consortium.trust();
        let clock = Arc::new(DefaultTimeProvider);
        let tls = tls::client_config(&identity, &trust, clock, alpn).unwrap();
        let endpoint = quinn::Endpoint::client(SocketAddr::from((ATTACKERS[0], 0))).unwrap();
        let connecting = endpoint.connect_with(quic(tls), address, &name(&scene.consortium));
        let connection = connecting.unwrap().await.unwrap();
        let (mut control, _) = connection.open_bi().await.unwrap();
        // The stream exists for the peer once something is written on it.
        let want = Want {
            blob: Digest::of(b"any"),
        };
        let frame = codec::encode(&want.into(), Version::NEWEST).unwrap();
        control.write_all(&frame).await.unwrap();
        let hub = scene.listener.accept().await;
        let this = Self {
            endpoint,
            connection,
            control,
        };
        (this, hub)
    }

    async fn chunk(&self, header: &[u8], bytes: &[u8]) -> quinn::SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(header).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_chunks_that_announce_too_much_end_the_link_before_a_byte_is_kept() {
    let _turn = TURN.lock().await;
    let mut scene = Scene::new().await;
    let address = scene.listener.local_addr();
    let memory = Memory::start();
    let too_long = ChunkHeader {
        blob: Digest::of(b"any"),
        chunk: 0,
        len: CHUNK_LEN as u32 + 1,
    };
    const ATTACKS: u64 = 3;
    for attack in 0..ATTACKS {
        let (mut hostile, hub) = Hostile::connect(&mut scene, address).await;
        let mut _stream = None;
        match attack {
            0 => {
                let length = (MAX_FRAME_LEN as u32 + 1).to_le_bytes();
                hostile.control.write_all(&length).await.unwrap();
            }
            1 => hostile.control.write_all(&[0xff; 4]).await.unwrap(),
            _ => _stream = Some(hostile.chunk(&too_long.encode(), b"").await),
        }
        let code = CloseCode::Malformed;
        let by_peer = false;
        assert_eq!(hub.ended().await, LinkError::Closed { code, by_peer });
        assert!(matches!(
            hostile.connection.closed().await,
            quinn::ConnectionError::ApplicationClosed(_)
        ));
    }
    scene.talk().await;
    // No more than links that keep the rules may hold of what was announced.
    let allowed = ATTACKS * (MAX_FRAME_LEN as u64 + CHUNK_LEN) / MIB;
    let growth = memory.growth_mib();
    assert!(growth <= allowed, "{growth} MiB of {allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_with_gaps_and_no_end_hold_no_more_than_their_window() {
    let _turn = TURN.lock().await;
    let mut scene = Scene::new().await;
    // Once the streams are under way half of the packets are lost: what arrives has gaps.
    let weather = Weather {
        loss: 5_000,
        spared: 1_000,
        ..Weather::default()
    };
    let relay = Relay::start(scene.listener.local_addr(), weather);
    let folder = tempfile::tempdir().unwrap();
    let source = BlobStore::open(folder.path().join("source")).unwrap();
    let sink = BlobStore::open(folder.path().join("sink")).unwrap();
    let blob = source
        .put(&bytes(HONEST_MIB as usize * MIB as usize, 9))
        .unwrap();
    let memory = Memory::start();
    let (hostile, _hub) = Hostile::connect(&mut scene, relay.address).await;
    let header = ChunkHeader {
        blob: Digest::of(b"any"),
        chunk: 0,
        len: CHUNK_LEN as u32,
    };
    let mut streams = JoinSet::new();
    for _ in 0..Config::default().chunks_in_flight {
        // All but the last byte of a chunk: whoever reads it waits for ever.
        let mut stream = hostile.chunk(&header.encode(), b"").await;
        streams.spawn(async move {
            let _ = stream.write_all(&vec![0; CHUNK_LEN as usize - 1]).await;
            std::future::pending::<()>().await;
        });
    }

    // Meanwhile an honest site sends what it has.
    upload(&scene, &source, &sink, blob).await;
    scene.talk().await;
    // The attacker holds its bytes twice, to write and until acknowledged. The coordinator holds them
    // 1.5 times at most: beyond that quinn copies what arrived in pieces. The honest blob is at both
    // ends at once.
    let in_flight = u64::from(Config::default().chunks_in_flight) * CHUNK_LEN / MIB;
    let allowed = 2 * in_flight + in_flight * 3 / 2 + 2 * HONEST_MIB;
    let growth = memory.growth_mib();
    assert!(growth <= allowed, "{growth} MiB of {allowed}");
    streams.shutdown().await;
    hostile.endpoint.close(quinn::VarInt::from_u32(0), b"");
}

async fn upload(scene: &Scene, source: &BlobStore, sink: &BlobStore, blob: BlobRef) {
    // Which identity signs matters: it is the link's.
    let manifest = manifest(blob, &scene.identity);
    let blob = source.blob(blob.digest).unwrap();
    let take = async {
        let Message::Manifest(signed) = scene.hub.receive().await.unwrap() else {
            panic!("not a manifest")
        };
        let manifest: Manifest = scene.hub.open(&signed).unwrap();
        receive_blob(&scene.hub, sink, manifest.blob, |_| {})
            .await
            .unwrap();
    };
    let (sent, ()) = tokio::join!(send_blob(&scene.site, &blob, &manifest, |_| {}), take);
    assert_eq!(sent.unwrap().bytes, blob.blob().len);
}
