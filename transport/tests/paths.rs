//! Ways through a network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::message::{Manifest, Want};
use protocol::transfer::CHUNK_LEN;
use protocol::{Digest, Message, Role};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use transport::{
    BlobStore, Config, ConnectError, Connector, Link, LinkError, Path, PathChoice, receive_blob,
    send_blob,
};

use crate::harness::relay::{Relay, Weather};
use crate::harness::{Consortium, bytes, manifest};

/// A port where TCP is forwarded to the coordinator and UDP vanishes.
async fn udp_black_hole(server: SocketAddr) -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        // Bound and never read: packets are lost without a word.
        let Ok(udp) = std::net::UdpSocket::bind(address) else {
            continue;
        };
        tokio::spawn(async move {
            let _udp = udp;
            loop {
                let (mut inner, _) = tcp.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut outer = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
                });
            }
        });
        return address;
    }
}

async fn talk(site: &Link, hub: &Link) {
    let want = Want {
        blob: Digest::of(b"any"),
    };
    site.send(want).await.unwrap();
    assert_eq!(hub.receive().await.unwrap(), Message::Want(want));
    hub.send(want).await.unwrap();
    assert_eq!(site.receive().await.unwrap(), Message::Want(want));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_black_holed_the_site_falls_back_to_tcp_by_itself() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let mut listener = consortium.listen(Config::default()).await;
    let hole = udp_black_hole(listener.local_addr()).await;
    let config = Config {
        fallback_after_seconds: 1,
        ..Config::default()
    };
    let connector = Connector::new(hole.to_string(), config, identity, consortium.trust()).unwrap();
    for _ in 0..2 {
        let (site, hub) = tokio::join!(connector.connect(), listener.accept());
        let site = site.unwrap();
        assert_eq!((site.path(), hub.path()), (Path::Tcp, Path::Tcp));
        talk(&site, &hub).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_only_does_not_fall_back() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let listener = consortium.listen(Config::default()).await;
    let hole = udp_black_hole(listener.local_addr()).await;
    let config = Config {
        path: PathChoice::Quic,
        handshake_timeout_seconds: 1,
        ..Config::default()
    };
    let connector = Connector::new(hole.to_string(), config, identity, consortium.trust()).unwrap();
    let error = connector.connect().await.unwrap_err();
    assert!(
        matches!(error, ConnectError::TimedOut { path: "UDP", .. }),
        "{error}"
    );
}

/// An HTTP proxy that answers every request with `answer`, and tunnels after a 200: to `names` if
/// that is what the request asks for, for it resolves names that this machine does not.
async fn proxy(
    answer: &'static str,
    tunnels: Arc<AtomicUsize>,
    names: Option<(&'static str, SocketAddr)>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tunnels = Arc::clone(&tunnels);
            tokio::spawn(async move {
                let mut inner = BufReader::new(stream);
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    inner.read_line(&mut request).await.unwrap();
                }
                inner.write_all(answer.as_bytes()).await.unwrap();
                let target = request.split(' ').nth(1).unwrap();
                assert!(request.starts_with("CONNECT "), "{request}");
                if answer.contains(" 200 ") {
                    let mut outer = match names {
                        Some((name, address)) if name == target => {
                            TcpStream::connect(address).await.unwrap()
                        }
                        _ => TcpStream::connect(target).await.unwrap(),
                    };
                    tunnels.fetch_add(1, Ordering::Relaxed);
                    let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_passed_by_http_connect() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let mut listener = consortium.listen(Config::default()).await;
    let tunnels = Arc::new(AtomicUsize::new(0));
    let through = proxy(
        "HTTP/1.1 200 Connection established\r\n\r\n",
        Arc::clone(&tunnels),
        None,
    )
    .await;
    let target = listener.local_addr().to_string();
    let path = PathChoice::Tcp;
    let config = Config {
        path,
        proxy: Some(through.to_string()),
        ..Config::default()
    };
    let connector = Connector::new(
        &target,
        config.clone(),
        Arc::clone(&identity),
        consortium.trust(),
    )
    .unwrap();
    let (site, hub) = tokio::join!(connector.connect(), listener.accept());
    talk(&site.unwrap(), &hub).await;
    assert_eq!(tunnels.load(Ordering::Relaxed), 1);

    let refusing = proxy(
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        tunnels,
        None,
    )
    .await;
    let config = Config {
        proxy: Some(refusing.to_string()),
        ..config
    };
    let connector = Connector::new(&target, config, identity, consortium.trust()).unwrap();
    let error = connector.connect().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "proxy: answered \"HTTP/1.1 407 Proxy Authentication Required\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_the_proxy_resolves_is_reached_through_it() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let mut listener = consortium.listen(Config::default()).await;
    let tunnels = Arc::new(AtomicUsize::new(0));
    let through = proxy(
        "HTTP/1.1 200 Connection established\r\n\r\n",
        Arc::clone(&tunnels),
        Some((NO_NAME, listener.local_addr())),
    )
    .await;
    let connector = |proxy| {
        let config = Config {
            proxy,
            ..Config::default()
        };
        Connector::new(NO_NAME, config, Arc::clone(&identity), consortium.trust()).unwrap()
    };
    let error = connector(None).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Resolve { .. }), "{error}");

    let connector = connector(Some(through.to_string()));
    let (site, hub) = tokio::join!(connector.connect(), listener.accept());
    let site = site.unwrap();
    assert_eq!((site.path(), hub.path()), (Path::Tcp, Path::Tcp));
    talk(&site, &hub).await;
    assert_eq!(tunnels.load(Ordering::Relaxed), 1);
}

async fn upload_through(weather: Weather, moves: bool) {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let config = Config {
        path: PathChoice::Quic,
        ..Config::default()
    };
    let mut listener = consortium.listen(config.clone()).await;
    let relay = Arc::new(Relay::start(listener.local_addr(), weather));
    let target = relay.address.to_string();
    let connector =
        Connector::new(target, config, Arc::clone(&identity), consortium.trust()).unwrap();
    let (site, hub) = tokio::join!(connector.connect(), listener.accept());
    let site = site.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let source = BlobStore::open(folder.path().join("source")).unwrap();
    let sink = BlobStore::open(folder.path().join("sink")).unwrap();
    let blob = source.put(&bytes(8 * CHUNK_LEN as usize + 1, 9)).unwrap();
    let blob = source.blob(blob.digest).unwrap();
    let manifest = manifest(blob.blob(), &identity);
    let take = async {
        let Message::Manifest(signed) = hub.receive().await.unwrap() else {
            panic!()
        };
        let manifest: Manifest = hub.open(&signed).unwrap();
        let mut moves = moves;
        let relay = Arc::clone(&relay);
        let note = move |held| {
            if held > 2 * CHUNK_LEN && std::mem::take(&mut moves) {
                relay.move_clients();
            }
        };
        receive_blob(&hub, &sink, manifest.blob, note)
            .await
            .unwrap();
    };
    let (sent, ()) = tokio::join!(send_blob(&site, &blob, &manifest, |_| {}), take);
    assert_eq!(sent.unwrap().bytes, blob.blob().len);
    sink.blob(blob.blob().digest).unwrap().verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_loses_packets_loses_no_chunk() {
    let delay = Duration::from_millis(5);
    upload_through(
        Weather {
            delay,
            loss: 200,
            ..Weather::default()
        },
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_address_changes_stays_connected() {
    let delay = Duration::from_millis(1);
    upload_through(
        Weather {
            delay,
            ..Weather::default()
        },
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_hears_at_once_from_a_restarted_coordinator_that_its_connection_is_gone() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let config = Config {
        path: PathChoice::Quic,
        heartbeat_seconds: 1,
        idle_timeout_seconds: 3600,
        ..Config::default()
    };
    let mut killed = consortium.listen(config.clone()).await;
    let relay = Relay::start(killed.local_addr(), Weather::default());
    let target = relay.address.to_string();
    let connector = Connector::new(&target, config.clone(), identity, consortium.trust()).unwrap();
    let (link, _accepted) = tokio::join!(connector.connect(), killed.accept());
    let link = link.unwrap();
    // A process that was killed says nothing; the next one has its key and none of its memory.
    let mut restarted = consortium.listen(config).await;
    relay.redirect(restarted.local_addr());
    let ended = tokio::time::timeout(Duration::from_secs(60), link.ended());
    let error = ended.await.expect("long before the connection is idle");
    assert!(matches!(error, LinkError::Lost(_)), "{error}");
    let (link, _accepted) = tokio::join!(connector.connect(), restarted.accept());
    assert!(link.is_ok());
}

/// No resolver is asked for it: a name has no empty part.
const NO_NAME: &str = "hub..example:4433";
