//! Ends that know different versions of the protocol: a consortium is not upgraded on one day.

use std::num::NonZeroU8;
use std::sync::Arc;

use protocol::message::Want;
use protocol::{Digest, Message, Role, Spoken, Version};
use transport::{Config, ConnectError, Connector, PathChoice};

use crate::harness::Consortium;

const PATHS: [PathChoice; 2] = [PathChoice::Quic, PathChoice::Tcp];

fn version(number: u8) -> Version {
    Version::new(NonZeroU8::new(number).unwrap())
}

fn knowing(newest: u8, path: PathChoice) -> Config {
    let versions = Spoken::up_to(version(newest));
    Config {
        path,
        versions,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_one_version_apart_speak_the_older_one_both_ways() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    for path in PATHS {
        for (site, hub, agreed) in [(1, 2, 1), (2, 1, 1), (2, 2, 2), (2, 3, 2), (3, 2, 2)] {
            let mut listener = consortium.listen(knowing(hub, path)).await;
            let (target, trust) = (listener.local_addr().to_string(), consortium.trust());
            let identity = Arc::clone(&identity);
            let connector = Connector::new(target, knowing(site, path), identity, trust).unwrap();
            let (site, hub) = tokio::join!(connector.connect(), listener.accept());
            let site = site.unwrap();
            assert_eq!([site.version(), hub.version()], [version(agreed); 2]);
            let want = Want {
                blob: Digest::of(b"any"),
            };
            for (near, far) in [(&site, &hub), (&hub, &site)] {
                near.send(want).await.unwrap();
                assert_eq!(far.receive().await, Ok(Message::Want(want)), "{path:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_two_versions_apart_are_told_so() {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    for path in PATHS {
        for (site, hub) in [(1, 3), (3, 1)] {
            let listener = consortium.listen(knowing(hub, path)).await;
            let (target, trust) = (listener.local_addr().to_string(), consortium.trust());
            let identity = Arc::clone(&identity);
            let connector = Connector::new(target, knowing(site, path), identity, trust).unwrap();
            let error = connector.connect().await.unwrap_err();
            assert!(matches!(error, ConnectError::Version), "{path:?}: {error}");
        }
    }
}
