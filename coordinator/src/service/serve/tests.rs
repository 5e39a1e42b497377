//! The shell over real links on loopback.

use certs::{Approval, AuthorityHome, Home, Identity, Trust};
use futures::future::pending;
use protocol::bounded::Text;
use protocol::message::{Hello, Overview as OverviewMessage, Reason, Watch};
use protocol::{Role, Timestamp};
use tempfile::TempDir;
use transport::{Config, Connector, LinkError, PathChoice};

use super::*;
use crate::service::{Options, blobs_path};

const DAY: Duration = Duration::from_secs(86_400);

/// A coordinator that listens, and its members.
struct Scene {
    folder: TempDir,
    authority: AuthorityHome,
    clock: Clock,
}

impl Scene {
    fn new() -> Self {
        Self::founded(Duration::ZERO)
    }

    /// Founded that long ago.
    fn founded(ago: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = AuthorityHome::new(folder.path().join("coordinator"));
        let clock = Clock::start();
        let then = Timestamp(clock.now().0 - u64::try_from(ago.as_millis()).unwrap());
        let (name, own) = ("headct".parse().unwrap(), "coordinator".parse().unwrap());
        authority.found(name, &own, None, then).unwrap();
        Self {
            folder,
            authority,
            clock,
        }
    }

    fn admit(&self, name: &str, role: Role) -> (Arc<Identity>, Trust) {
        let home = Home::new(self.folder.path().join(name));
        let root = self.authority.home().trust().unwrap().root().fingerprint();
        let request = home.enroll(&name.parse().unwrap(), &root.into(), None);
        let now = self.clock.now();
        let approval = self.authority.approve(&request.unwrap(), role, None, now);
        let approval = std::fs::read(approval.unwrap()).unwrap();
        home.accept(&Approval::read(&approval).unwrap(), now)
            .unwrap();
        let (identity, trust) = home.open(None).unwrap();
        (Arc::new(identity), trust)
    }

    async fn serve(&self) -> (Server, Listener) {
        let (identity, trust) = self.authority.home().open(None).unwrap();
        let (identity, dir) = (Arc::new(identity), self.authority.home().dir());
        let now = self.clock.now();
        let coordinator =
            Coordinator::open(dir, Arc::clone(&identity), Options::default(), now).unwrap();
        let store = BlobStore::open(blobs_path(dir)).unwrap();
        let membership = Membership::new(self.authority.clone(), trust.clone(), None);
        let server = Server::new(coordinator, store, Arc::new(membership), self.clock, false);
        let any = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind(any, Config::default(), identity, trust)
            .await
            .unwrap();
        (server, listener)
    }
}

fn connector(listener: &Listener, member: &(Arc<Identity>, Trust), path: PathChoice) -> Connector {
    let config = Config {
        path,
        ..Config::default()
    };
    let target = listener.local_addr().to_string();
    Connector::new(target, config, Arc::clone(&member.0), member.1.clone()).unwrap()
}

/// Runs `client` while the server serves.
async fn beside<T>(server: Server, listener: Listener, client: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = server.run(listener, pending()) => panic!("the server ended: {ended:?}"),
        result = client => result,
    }
}

fn closed(code: CloseCode, by_peer: bool) -> LinkError {
    LinkError::Closed { code, by_peer }
}

fn words(count: usize) -> impl Iterator<Item = Message> {
    let (subject, reason) = (Subject::Connection, Reason::Busy);
    std::iter::repeat_n(Rejection { subject, reason }.into(), count)
}

/// What a peer says that knows the newest list of members.
fn hello(now: Timestamp) -> Hello {
    Hello {
        software: Text::lossy("test"),
        consortium: "headct".parse().unwrap(),
        consortium_version: u64::MAX,
        time: now,
    }
}

async fn is_served(link: &Link, now: Timestamp) {
    link.send(hello(now)).await.unwrap();
    assert!(matches!(link.receive().await, Ok(Message::Welcome(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_that_ran_out_is_renewed_at_the_start_and_believed_by_a_site_with_an_old_list()
{
    let scene = Scene::founded(100 * DAY);
    let member = scene.admit("north", Role::Site);
    let listed = member.1.consortium();
    let own = listed.active(&"coordinator".parse().unwrap()).unwrap();
    assert!(own.expires < scene.clock.now(), "the site's list is old");
    let (server, listener) = scene.serve().await;
    let connector = connector(&listener, &member, PathChoice::Quic);
    let client = async {
        loop {
            // Refused while the old certificate is shown.
            if let Ok(link) = connector.connect().await {
                return link.peer().expires();
            }
        }
    };
    let until = beside(server, listener, client).await;
    assert!(until > scene.clock.now() + 89 * DAY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_link_of_an_identity_supersedes_the_first_whatever_its_role_and_path() {
    let scene = Scene::new();
    let members = [
        scene.admit("north", Role::Site),
        scene.admit("auditor", Role::Observer),
    ];
    let (server, listener) = scene.serve().await;
    let paths = [PathChoice::Quic, PathChoice::Tcp];
    let connectors: Vec<_> = members
        .iter()
        .flat_map(|member| paths.map(|path| connector(&listener, member, path)))
        .collect();
    let client = async {
        for connector in &connectors {
            let first = connector.connect().await.unwrap();
            is_served(&first, scene.clock.now()).await;
            let second = connector.connect().await.unwrap();
            assert_eq!(first.ended().await, closed(CloseCode::Superseded, true));
            is_served(&second, scene.clock.now()).await;
        }
    };
    beside(server, listener, client).await;
}

#[tokio::test]
async fn peer_that_does_not_read_is_cut_off_at_once_and_the_others_get_their_messages() {
    let scene = Scene::new();
    let members = ["slow", "quick"].map(|name| scene.admit(name, Role::Site));
    let (mut server, mut listener) = scene.serve().await;
    let mut sites = Vec::new();
    for (serial, member) in members.iter().enumerate() {
        let connector = connector(&listener, member, PathChoice::Quic);
        let (site, hub) = tokio::join!(connector.connect(), listener.accept());
        server.accept(hub, serial as u64);
        sites.push(site.unwrap());
    }
    let ids = members.map(|(identity, _)| identity.id().clone());
    let outgoing = &mut server.coordinator.outgoing;
    outgoing.extend(words(100).map(|word| (ids[0].clone(), word)));
    outgoing.extend(words(1).map(|word| (ids[1].clone(), word)));
    let hub = server.links[&ids[0]].1.clone();

    // One thread, which nobody else gets while nothing waits: the queue stays as full as it gets.
    server.settle().await.unwrap();
    assert_eq!(
        hub.ended().now_or_never(),
        Some(closed(CloseCode::Busy, false))
    );
    assert!(matches!(
        sites[1].receive().await,
        Ok(Message::Rejection(_))
    ));
    assert_eq!(sites[0].ended().await, closed(CloseCode::Busy, true));
}

#[tokio::test]
async fn many_messages_to_many_peers_in_one_go_fill_no_queue() {
    let scene = Scene::new();
    let (mut server, mut listener) = scene.serve().await;
    let mut sites = Vec::new();
    for serial in 0..5 {
        let member = scene.admit(&format!("site-{serial}"), Role::Site);
        server.membership.refresh().unwrap();
        let connector = connector(&listener, &member, PathChoice::Quic);
        let (site, hub) = tokio::join!(connector.connect(), listener.accept());
        let id = hub.peer().id().clone();
        server.accept(hub, serial);
        let messages = words(40).map(|word| (id.clone(), word));
        server.coordinator.outgoing.extend(messages);
        sites.push(site.unwrap());
    }
    server.settle().await.unwrap();
    for site in sites {
        for _ in 0..40 {
            assert!(matches!(site.receive().await, Ok(Message::Rejection(_))));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_overview_is_under_way_however_often_an_observer_asks() {
    let scene = Scene::new();
    let member = scene.admit("auditor", Role::Observer);
    let (server, mut listener) = scene.serve().await;
    let connector = connector(&listener, &member, PathChoice::Quic);
    let (observer, link) = tokio::join!(connector.connect(), listener.accept());
    let observer = observer.unwrap();
    let shown = server.overview.clone();
    let reader = Reader {
        site: link.peer().id().clone(),
        link,
        serial: 0,
        tell: server.tell.clone(),
        store: server.store.clone(),
        membership: Arc::clone(&server.membership),
        clock: server.clock,
        overview: shown.subscribe(),
        greeted: false,
    };
    let reading = tokio::spawn(reader.run());
    for _ in 0..30 {
        observer.send(Watch { follow: true }).await.unwrap();
    }
    observer.send(hello(server.clock.now())).await.unwrap();
    while !matches!(observer.receive().await.unwrap(), Message::Welcome(_)) {}
    assert_eq!(
        shown.receiver_count(),
        2,
        "the reader's, and one overview's"
    );

    // The one that is left follows.
    shown.send_replace(Arc::new(server.coordinator.overview(Timestamp(7))));
    loop {
        let Message::Overview(OverviewMessage { json }) = observer.receive().await.unwrap() else {
            panic!("nothing else was asked for");
        };
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        if json["at"] == 7 {
            break;
        }
    }
    observer.close(CloseCode::Done);
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_greets_again_and_again_is_connected_once_for_each_link() {
    let scene = Scene::new();
    let member = scene.admit("north", Role::Site);
    let (mut server, mut listener) = scene.serve().await;
    let connector = connector(&listener, &member, PathChoice::Quic);
    let (site, hub) = tokio::join!(connector.connect(), listener.accept());
    let site = site.unwrap();
    server.accept(hub, 7);
    for _ in 0..3 {
        is_served(&site, scene.clock.now()).await;
    }
    site.close(CloseCode::Done);
    let id = member.0.id().clone();
    let Some(Told::Connected(connected)) = server.told.recv().await else {
        panic!("connected first");
    };
    assert_eq!(connected, id);
    let Some(Told::Disconnected(ended, 7)) = server.told.recv().await else {
        panic!("nothing in between");
    };
    assert_eq!(ended, id);
}
