//! Who is let in, and for how long.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use protocol::message::{Heartbeat, Want, Watch};
use protocol::{CloseCode, Digest, Message, Role};
use tokio::net::{TcpListener, TcpStream};
use transport::{Config, ConnectError, Connector, LinkError, PathChoice};

use crate::harness::{Consortium, now};
use crate::pair::Pair;

const PATHS: [PathChoice; 2] = [PathChoice::Quic, PathChoice::Tcp];

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_site_is_cut_at_the_next_heartbeat_and_not_let_in_again() {
    for path in PATHS {
        let config = Config {
            path,
            heartbeat_seconds: 1,
            ..Config::default()
        };
        let mut consortium = Consortium::found();
        let identity = consortium.enroll("north", Role::Site);
        let trust = consortium.trust();
        let any = ([127, 0, 0, 1], 0).into();
        let coordinator = Arc::clone(&consortium.coordinator);
        let mut listener =
            transport::Listener::bind(any, config.clone(), coordinator, trust.clone())
                .await
                .unwrap();
        let target = listener.local_addr().to_string();
        let connector = Connector::new(target, config, identity, consortium.trust()).unwrap();
        let (site, hub) = tokio::join!(connector.connect(), listener.accept());
        let site = site.unwrap();

        consortium
            .authority
            .revoke(&"north".parse().unwrap(), now())
            .unwrap();
        trust
            .update(consortium.authority.consortium().as_bytes())
            .unwrap();
        let code = CloseCode::NotMember;
        assert_eq!(
            hub.ended().await,
            LinkError::Closed {
                code,
                by_peer: false
            }
        );
        assert_eq!(
            site.ended().await,
            LinkError::Closed {
                code,
                by_peer: true
            }
        );
        assert!(!site.ended().await.is_temporary());
        let error = connector.connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Failed { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_role_may_not_send_ends_the_link() {
    for path in PATHS {
        let mut consortium = Consortium::found();
        let identity = consortium.enroll("ward", Role::Observer);
        let config = Config {
            path,
            ..Config::default()
        };
        let mut listener = consortium.listen(config.clone()).await;
        let target = listener.local_addr().to_string();
        let connector = Connector::new(target, config, identity, consortium.trust()).unwrap();
        let (observer, hub) = tokio::join!(connector.connect(), listener.accept());
        let observer = observer.unwrap();
        observer.send(Watch { follow: false }).await.unwrap();
        assert!(matches!(hub.receive().await, Ok(Message::Watch(_))));

        observer
            .send(Want {
                blob: Digest::of(b"secret"),
            })
            .await
            .unwrap();
        let code = CloseCode::NotAllowed;
        assert_eq!(
            hub.receive().await,
            Err(LinkError::Closed {
                code,
                by_peer: false
            })
        );
        assert_eq!(
            observer.ended().await,
            LinkError::Closed {
                code,
                by_peer: true
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_before_a_finish_arrives() {
    for path in PATHS {
        let pair = Pair::over(path).await;
        let want = Want {
            blob: Digest::of(b"last"),
        };
        pair.site.send(want).await.unwrap();
        let (got, ()) = tokio::join!(pair.hub.receive(), pair.site.finish(CloseCode::Shutdown));
        assert_eq!(got, Ok(Message::Want(want)));
        let code = CloseCode::Shutdown;
        assert_eq!(
            pair.hub.ended().await,
            LinkError::Closed {
                code,
                by_peer: true
            }
        );
        assert!(pair.hub.ended().await.is_temporary());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_link_is_closed_at_the_other_end() {
    for path in PATHS {
        let pair = Pair::over(path).await;
        drop(pair.site);
        let code = CloseCode::Done;
        assert_eq!(
            pair.hub.ended().await,
            LinkError::Closed {
                code,
                by_peer: true
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_do_not_reach_the_application() {
    let config = Config {
        heartbeat_seconds: 1,
        ..Config::default()
    };
    let pair = Pair::with(config).await;
    pair.site
        .send(Heartbeat {
            sequence: 9,
            heard: 0,
        })
        .await
        .unwrap();
    let want = Want {
        blob: Digest::of(b"after"),
    };
    pair.site.send(want).await.unwrap();
    assert_eq!(pair.hub.receive().await, Ok(Message::Want(want)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_from_the_next_connection_on() {
    let mut pair = Pair::over(PathChoice::Auto).await;
    let before = pair.hub.peer().expires();
    let later = protocol::Timestamp(now().0 + 5_000);
    let certificate = pair
        .consortium
        .authority
        .renew(pair.site_identity.id(), later)
        .unwrap();
    let renewed = Arc::new(pair.site_identity.renewed(certificate).unwrap());
    pair.connector.set_identity(renewed).unwrap();
    pair.listener
        .set_identity(Arc::clone(&pair.consortium.coordinator))
        .unwrap();
    pair.reconnect().await;
    assert!(pair.hub.peer().expires() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_goes_on_until_there_is_a_coordinator() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    // An address where nobody listens yet.
    let listener = consortium.listen(Config::default()).await;
    let address = listener.local_addr();
    drop(listener);
    let config = Config {
        path: PathChoice::Tcp,
        reconnect_base_seconds: 0.01,
        reconnect_cap_seconds: 0.1,
        ..Config::default()
    };
    let trust = consortium.trust();
    let connector = Connector::new(address.to_string(), config.clone(), identity, trust).unwrap();
    assert!(connector.connect().await.is_err());
    let late = async {
        loop {
            let coordinator = Arc::clone(&consortium.coordinator);
            let bound =
                transport::Listener::bind(address, config.clone(), coordinator, consortium.trust());
            if let Ok(mut listener) = bound.await {
                let link = listener.accept().await;
                break (listener, link);
            }
            tokio::task::yield_now().await;
        }
    };
    let (site, (_listener, hub)) = tokio::join!(connector.connect_until_done(), late);
    assert_eq!(site.peer().role(), Role::Coordinator);
    assert_eq!(hub.peer().role(), Role::Site);
}

#[tokio::test]
async fn a_superseded_site_says_what_that_means_and_does_not_try_again_at_once() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Mutex::new(log.reopen().unwrap()))
        .with_ansi(false)
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let mut listener = consortium.listen(Config::default()).await;
    // What the site opens is seen here, whether or not anybody goes on with it.
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        path: PathChoice::Tcp,
        reconnect_cap_seconds: 3600.0,
        ..Config::default()
    };
    let target = door.local_addr().unwrap().to_string();
    let connector = Connector::new(target, config, identity, consortium.trust()).unwrap();
    let server = listener.local_addr();
    let usher = async {
        let (mut inner, _) = door.accept().await.unwrap();
        let mut outer = TcpStream::connect(server).await.unwrap();
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
        });
    };
    let (site, hub, ()) = tokio::join!(connector.connect_until_done(), listener.accept(), usher);
    hub.close(CloseCode::Superseded);
    let (code, by_peer) = (CloseCode::Superseded, true);
    assert_eq!(site.ended().await, LinkError::Closed { code, by_peer });

    let mut again = pin!(connector.connect_until_done());
    assert!(again.as_mut().now_or_never().is_none());
    // The kernel would have let it in by now.
    let tried = door.into_std().unwrap().accept().unwrap_err();
    assert_eq!(tried.kind(), std::io::ErrorKind::WouldBlock);
    let log = std::fs::read_to_string(log.path()).unwrap();
    let warning = log.lines().find(|line| line.contains("WARN")).unwrap();
    assert!(warning.contains("another process"), "{warning}");
    assert!(warning.contains("3600"), "{warning}");
}
