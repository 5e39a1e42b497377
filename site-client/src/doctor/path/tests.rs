use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::sync::Arc;

use certs::{Authority, Home, PrivateKey, Request};
use protocol::message::Welcome;
use protocol::{CloseCode, Role, Spoken, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use transport::Listener;

use super::*;

#[test]
fn clocks_are_compared_at_the_middle_of_the_wait() {
    let at = |seconds: u64| Timestamp(1_795_464_000_000 + seconds * 1000);
    assert_eq!(skew(at(5), at(0), at(10)).outcome, Outcome::Good);
    assert_eq!(skew(at(65), at(0), at(10)).outcome, Outcome::Poor);
    assert_eq!(skew(at(400), at(0), at(10)).outcome, Outcome::Bad);
    assert_eq!(skew(at(0), at(390), at(410)).outcome, Outcome::Bad);
    assert_eq!(
        skew(at(0), at(390), at(410)).detail,
        "400.0 s apart from the coordinator's"
    );
}

fn unreached(why: &str) -> Unreached {
    Unreached::here(why.to_owned())
}

#[test]
fn blocked_path_is_fatal_only_if_the_other_is_blocked_too() {
    let error = unreached("no answer within 5 s");
    let udp = unreachable("UDP", &error, 4433, true, Seen::Nobody);
    assert_eq!(udp.outcome, Outcome::Poor);
    assert!(udp.ask.unwrap().contains("outbound UDP to port 4433"));
    let error = unreached("connection refused");
    let tcp = unreachable("TCP", &error, 4433, false, Seen::Nobody);
    assert_eq!(tcp.outcome, Outcome::Bad);
    assert!(tcp.ask.unwrap().contains("outbound TCP to port 4433"));
}

#[test]
fn a_refused_version_is_blamed_on_the_coordinator_only_where_its_certificate_was_seen() {
    let error = Unreached::there(ConnectError::Version);
    for (seen, blamed) in [
        (Seen::Coordinator, true),
        (Seen::Other, false),
        (Seen::Nobody, false),
    ] {
        let finding = unreachable("UDP", &error, 4433, false, seen);
        assert_eq!(finding.outcome, Outcome::Bad);
        let ask = finding.ask.unwrap();
        assert_eq!(ask.contains("upgrade"), blamed, "{ask}");
    }
}

/// Knows two versions, and none that is spoken here.
fn of_another_version() -> Config {
    let number = NonZeroU8::new(Version::NEWEST.number() + 2).unwrap();
    Config {
        versions: Spoken::up_to(Version::new(number)),
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_of_another_version_is_seen_and_not_blamed_on_the_network() {
    let hub = Hub::with(of_another_version()).await;
    let coordinator = hub.address.to_string();
    let findings = hub.examine(coordinator, None).await;
    assert_eq!(findings["interception"].outcome, Outcome::Good);
    for check in ["UDP", "TCP"] {
        let Finding { outcome, ask, .. } = &findings[check];
        assert_eq!(*outcome, Outcome::Bad);
        let ask = ask.as_ref().unwrap();
        assert!(ask.contains("upgrade") && !ask.contains("IT"), "{ask}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_knows_none_of_our_versions_is_not_called_an_old_coordinator() {
    let (hub, stranger) = (Hub::start().await, Hub::with(of_another_version()).await);
    let findings = hub.examine(stranger.address.to_string(), None).await;
    assert_eq!(findings["interception"].outcome, Outcome::Bad);
    for check in ["UDP", "TCP"] {
        let Finding { detail, ask, .. } = &findings[check];
        assert!(detail.contains("somebody else answers"), "{detail}");
        let ask = ask.as_ref().unwrap();
        assert!(!ask.contains("upgrade"), "{ask}");
    }
}

#[test]
fn proxy_that_opens_tls_is_named() {
    let why = Err("not signed".to_owned());
    let (seen, finding) = interception("CN=Hospital Web Gateway", why);
    assert_eq!((seen, finding.outcome), (Seen::Other, Outcome::Bad));
    assert!(finding.detail.contains("Hospital Web Gateway"));
    assert!(
        finding
            .ask
            .unwrap()
            .contains("exempt this address from TLS inspection")
    );
}

#[test]
fn address_that_is_no_name_is_refused() {
    assert!(resolve("127.0.0.1:4433").is_ok());
    assert!(resolve("no-port").is_err());
}

#[test]
fn name_that_does_not_resolve_is_left_to_a_proxy() {
    let why = || Err("no such name".to_owned());
    let (finding, port) = name("hub.example:4433", why(), None);
    assert_eq!((finding.outcome, port), (Outcome::Bad, None));
    let (finding, port) = name("hub.example:4433", why(), Some("proxy:3128"));
    assert_eq!((finding.outcome, port), (Outcome::Poor, Some(4433)));
    assert!(
        finding.detail.ends_with("left to the proxy proxy:3128"),
        "{finding}"
    );
    let (finding, port) = name("no-port", why(), Some("proxy:3128"));
    assert_eq!((finding.outcome, port), (Outcome::Bad, None));
}

/// An HTTP proxy that tunnels whatever is asked for to `server`.
async fn proxy(server: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut inner, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(inner.read_u8().await.unwrap());
                }
                inner.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut outer = tokio::net::TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
            });
        }
    });
    address
}

/// A coordinator that greets, and keeps the newest connection of a site only.
struct Hub {
    address: SocketAddr,
    site: Arc<certs::Identity>,
    trust: Trust,
}

impl Hub {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let now = clock::now();
        let mut authority = Authority::found("headct".parse().unwrap(), now).unwrap();
        let mut enroll = |name: &str, role| {
            let key = PrivateKey::generate().unwrap();
            let request = Request::write(&name.parse().unwrap(), &key).unwrap();
            let request = Request::read(request.as_bytes()).unwrap();
            let certificate = authority.approve(&request, role, now).unwrap();
            Arc::new(certs::Identity::new(Arc::new(key), certificate).unwrap())
        };
        let (hub, site) = (enroll("hub", Role::Coordinator), enroll("mgh", Role::Site));
        let trust = Trust::new(authority.root().clone(), authority.consortium().clone()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listener = Listener::bind(any, config, hub, trust.clone())
            .await
            .unwrap();
        let address = listener.local_addr();
        tokio::spawn(async move {
            let mut newest: Option<Link> = None;
            loop {
                let link = listener.accept().await;
                let old = newest.replace(link.clone());
                old.inspect(|old| old.close(CloseCode::Superseded));
                let welcome = Welcome {
                    software: Text::lossy("hub"),
                    consortium_version: u64::MAX,
                    time: clock::now(),
                };
                // Whoever has left by now needs no greeting.
                let _ = link.send(welcome).await;
            }
        });
        Self {
            address,
            site,
            trust,
        }
    }

    /// What each check found.
    async fn examine(
        self,
        coordinator: String,
        proxy: Option<String>,
    ) -> BTreeMap<&'static str, Finding> {
        let folder = tempfile::tempdir().unwrap();
        let subject = Subject {
            home: Home::new(folder.path()),
            passphrase: None,
            coordinator,
            transport: Config {
                proxy,
                ..Config::default()
            },
            work: folder.path().to_owned(),
            needed_bytes: 0,
        };
        let known = Known {
            identity: Some(self.site),
            trust: Some(self.trust),
        };
        let mut findings = BTreeMap::new();
        let mut tell = |finding: Finding| {
            findings.insert(finding.check, finding);
        };
        examine(&subject, known, &mut tell).await;
        findings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_the_proxy_resolves_the_name_the_way_is_examined_through_it() {
    let hub = Hub::start().await;
    let proxy = proxy(hub.address).await;
    // No resolver is asked for it: a name has no empty part.
    let coordinator = "hub..example:4433".to_owned();
    let findings = hub.examine(coordinator, Some(proxy)).await;
    assert_eq!(findings["name"].outcome, Outcome::Poor);
    assert_eq!(findings["UDP"].outcome, Outcome::Poor);
    for check in ["TCP", "interception", "clock", "its file"] {
        assert_eq!(findings[check].outcome, Outcome::Good, "{check}");
    }
    assert_ne!(findings["throughput"].outcome, Outcome::Skipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_examined_is_the_connection_that_the_coordinator_keeps() {
    let hub = Hub::start().await;
    let coordinator = hub.address.to_string();
    let findings = hub.examine(coordinator, None).await;
    for check in ["name", "UDP", "TCP", "interception", "clock", "its file"] {
        assert_eq!(findings[check].outcome, Outcome::Good, "{check}");
    }
    assert_ne!(findings["throughput"].outcome, Outcome::Skipped);
}
