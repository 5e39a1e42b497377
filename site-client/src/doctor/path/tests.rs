use std::collections::BTreeMap;
use std::sync::Arc;

use certs::{Authority, Home, PrivateKey, Request};
use protocol::message::Welcome;
use protocol::{CloseCode, Role};
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
    let udp = unreachable("UDP", &unreached("no answer within 5 s"), 4433, true);
    assert_eq!(udp.outcome, Outcome::Poor);
    assert!(udp.ask.unwrap().contains("outbound UDP to port 4433"));
    let tcp = unreachable("TCP", &unreached("connection refused"), 4433, false);
    assert_eq!(tcp.outcome, Outcome::Bad);
    assert!(tcp.ask.unwrap().contains("outbound TCP to port 4433"));
}

#[test]
fn coordinator_of_another_version_is_not_blamed_on_the_network() {
    let error = Unreached::there(ConnectError::Version);
    let finding = unreachable("UDP", &error, 4433, false);
    assert_eq!(finding.outcome, Outcome::Bad);
    let ask = finding.ask.unwrap();
    assert!(ask.contains("upgrade") && !ask.contains("IT"), "{ask}");
}

#[test]
fn proxy_that_opens_tls_is_named() {
    let finding = interception("CN=Hospital Web Gateway", Err("not signed".to_owned()));
    assert_eq!(finding.outcome, Outcome::Bad);
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
        let mut listener = Listener::bind(any, Config::default(), hub, trust.clone())
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

    /// How each check went.
    async fn examine(
        self,
        coordinator: String,
        proxy: Option<String>,
    ) -> BTreeMap<&'static str, Outcome> {
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
        let mut outcomes = BTreeMap::new();
        let mut tell = |finding: Finding| {
            outcomes.insert(finding.check, finding.outcome);
        };
        examine(&subject, known, &mut tell).await;
        outcomes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_the_proxy_resolves_the_name_the_way_is_examined_through_it() {
    let hub = Hub::start().await;
    let proxy = proxy(hub.address).await;
    // No resolver is asked for it: a name has no empty part.
    let coordinator = "hub..example:4433".to_owned();
    let outcomes = hub.examine(coordinator, Some(proxy)).await;
    assert_eq!(outcomes["name"], Outcome::Poor);
    assert_eq!(outcomes["UDP"], Outcome::Poor);
    for check in ["TCP", "interception", "clock", "its file"] {
        assert_eq!(outcomes[check], Outcome::Good, "{check}");
    }
    assert_ne!(outcomes["throughput"], Outcome::Skipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_examined_is_the_connection_that_the_coordinator_keeps() {
    let hub = Hub::start().await;
    let coordinator = hub.address.to_string();
    let outcomes = hub.examine(coordinator, None).await;
    for check in ["name", "UDP", "TCP", "interception", "clock", "its file"] {
        assert_eq!(outcomes[check], Outcome::Good, "{check}");
    }
    assert_ne!(outcomes["throughput"], Outcome::Skipped);
}
