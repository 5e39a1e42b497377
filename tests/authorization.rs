//! Who may say what, over real connections: every message × every role × every state of a
//! certificate. Whatever is not listed as allowed is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certs::{Authority, Identity, PrivateKey, Request, Trust};
use protocol::{CloseCode, Message, Role, Timestamp};
use transport::{Config, Connector, LinkError, Listener, PathChoice};

use expected::is_expected;
use strangers::{Attempt, Path};

mod expected;
mod messages;
mod strangers;

const ROLES: [Role; 3] = [Role::Site, Role::Observer, Role::Coordinator];
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What can be wrong with a peer before it says a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Expired,
    NotYetValid,
    Revoked,
    OtherConsortium,
    OtherRoot,
    WrongAlpn,
    NoCertificate,
    ServerNameMismatch,
}

impl Flaw {
    const ALL: [Self; 8] = [
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::OtherConsortium,
        Self::OtherRoot,
        Self::WrongAlpn,
        Self::NoCertificate,
        Self::ServerNameMismatch,
    ];
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    Timestamp(u64::try_from(since.as_millis()).expect("a clock before the end of time"))
}

fn earlier(by: Duration) -> Timestamp {
    Timestamp(now().0 - u64::try_from(by.as_millis()).expect("a short time"))
}

/// A key and the certificate that `authority` issues for it at a time.
fn admit(authority: &mut Authority, role: Role, name: &str, at: Timestamp) -> Identity {
    let key = PrivateKey::generate().expect("randomness");
    let name = name.parse().expect("a name");
    let request = Request::write(&name, &key).expect("a request");
    let request = Request::read(request.as_bytes()).expect("our own request");
    let certificate = authority.approve(&request, role, at).expect("approval");
    Identity::new(Arc::new(key), certificate).expect("our own certificate")
}

fn found(consortium: &str) -> Authority {
    Authority::found(consortium.parse().expect("a name"), earlier(HOUR)).expect("a consortium")
}

fn trust(authority: &Authority) -> Trust {
    Trust::new(authority.root().clone(), authority.consortium().clone()).expect("our own root")
}

/// A coordinator that listens, and somebody of every role with every flaw.
struct Scene {
    listener: Listener,
    address: SocketAddr,
    authority: Authority,
    trust: Trust,
}

impl Scene {
    async fn new(admissions: impl FnOnce(&mut Authority)) -> Self {
        let mut authority = found("headct");
        let coordinator = admit(
            &mut authority,
            Role::Coordinator,
            "coordinator",
            earlier(HOUR),
        );
        admissions(&mut authority);
        let trust = trust(&authority);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(any, config(), Arc::new(coordinator), trust.clone())
            .await
            .expect("a free port");
        let address = listener.local_addr();
        Self {
            listener,
            address,
            authority,
            trust,
        }
    }

    fn connector(&self, identity: &Identity, path: PathChoice) -> Connector {
        let config = Config { path, ..config() };
        let (target, identity) = (self.address.to_string(), Arc::new(identity.clone()));
        Connector::new(target, config, identity, self.trust.clone()).expect("a socket")
    }
}

fn config() -> Config {
    Config {
        heartbeat_seconds: 1,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_every_role_is_refused_from_a_flawed_peer() {
    let mut flawed = Vec::new();
    let (mut other_consortium, mut other_root) = (found("chestct"), found("headct"));
    let mut scene = Scene::new(|authority| {
        for role in ROLES {
            for flaw in Flaw::ALL {
                let name = format!("{role}-{}", flaw as u8);
                let identity = match flaw {
                    Flaw::Expired => admit(authority, role, &name, earlier(91 * DAY)),
                    Flaw::NotYetValid => admit(authority, role, &name, now() + HOUR),
                    Flaw::OtherConsortium => admit(&mut other_consortium, role, &name, now()),
                    Flaw::OtherRoot => admit(&mut other_root, role, &name, now()),
                    _ => admit(authority, role, &name, now()),
                };
                if flaw == Flaw::Revoked {
                    authority.revoke(identity.id(), now()).expect("a member");
                }
                flawed.push((flaw, identity));
            }
        }
    })
    .await;

    for (flaw, identity) in &flawed {
        for (path, messages) in [
            (Path::Quic, messages::of_every_kind(identity)),
            // Over TCP the handshake is the same code; one message shows that the path has no gap.
            (
                Path::Tcp,
                messages::of_every_kind(identity)
                    .into_iter()
                    .take(1)
                    .collect(),
            ),
        ] {
            for message in messages {
                let attempt = Attempt {
                    flaw: *flaw,
                    identity,
                    path,
                    trust: &scene.trust,
                };
                let refused = attempt.say(scene.address, &message).await;
                let who = identity.role();
                assert!(
                    refused,
                    "{flaw:?} {who} over {path:?} said {}",
                    message.name()
                );
            }
        }
    }

    // None of them was let in: the first link is the first honest peer's.
    let honest = admit(&mut scene.authority, Role::Site, "honest", now());
    scene
        .trust
        .update(scene.authority.consortium().as_bytes())
        .expect("a newer file");
    let connector = scene.connector(&honest, PathChoice::Quic);
    let (link, accepted) = tokio::join!(connector.connect(), scene.listener.accept());
    assert_eq!(link.expect("a link").peer().role(), Role::Coordinator);
    assert_eq!(accepted.peer().id(), honest.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_valid_peer_is_allowed_by_its_role_or_ends_the_link() {
    let mut peers = Vec::new();
    let mut scene = Scene::new(|authority| {
        for role in ROLES {
            peers.push(admit(authority, role, &format!("a-{role}"), now()));
        }
    })
    .await;
    for identity in &peers {
        for path in [PathChoice::Quic, PathChoice::Tcp] {
            let connector = scene.connector(identity, path);
            for message in messages::of_every_kind(identity) {
                let (link, accepted) = tokio::join!(connector.connect(), scene.listener.accept());
                let link = link.expect("a valid peer");
                assert_eq!(
                    (accepted.peer().id(), accepted.peer().role()),
                    (identity.id(), identity.role())
                );
                link.send(message.clone()).await.expect("a link");
                let said = format!("{} said {}", identity.role(), message.name());
                let allowed = is_expected(&message, identity.role());
                match message {
                    // The link itself answers these: that it lives on shows them accepted.
                    Message::Heartbeat(_) | Message::Probe(_) if allowed => {
                        link.send(messages::always_allowed(identity))
                            .await
                            .expect("a link");
                        assert!(accepted.receive().await.is_ok(), "{said}");
                    }
                    message if allowed => {
                        assert_eq!(accepted.receive().await, Ok(message), "{said}");
                    }
                    _ => {
                        let code = CloseCode::NotAllowed;
                        let refused = LinkError::Closed {
                            code,
                            by_peer: false,
                        };
                        assert_eq!(accepted.receive().await, Err(refused), "{said}");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_cuts_a_live_link_at_the_next_heartbeat_and_keeps_it_out() {
    let mut peers = Vec::new();
    let mut scene = Scene::new(|authority| {
        peers.push(admit(authority, Role::Site, "mgh", now()));
        peers.push(admit(authority, Role::Site, "ucsf", now()));
    })
    .await;
    for path in [PathChoice::Quic, PathChoice::Tcp] {
        let [revoked, stays] = [0, 1].map(|at| scene.connector(&peers[at], path));
        let (link, accepted) = tokio::join!(revoked.connect(), scene.listener.accept());
        let (link, _accepted) = (link.expect("a member"), accepted);
        let (other, other_accepted) = tokio::join!(stays.connect(), scene.listener.accept());
        let other = other.expect("a member");

        let id = peers[0].id();
        scene.authority.revoke(id, now()).expect("a member");
        scene
            .trust
            .update(scene.authority.consortium().as_bytes())
            .expect("a newer file");
        let ended = link.ended().await;
        assert_eq!(
            ended,
            LinkError::Closed {
                code: CloseCode::NotMember,
                by_peer: true
            }
        );
        assert!(
            revoked.connect().await.is_err(),
            "a revoked member came back"
        );
        other
            .send(messages::always_allowed(&peers[1]))
            .await
            .expect("others are not touched");
        assert!(other_accepted.receive().await.is_ok());

        peers[0] = admit(&mut scene.authority, Role::Site, "mgh", now());
        scene
            .trust
            .update(scene.authority.consortium().as_bytes())
            .expect("a newer file");
    }
}
