//! A consortium, links within it, and a network in between. Also used by the benchmarks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use certs::{Authority, Identity, PrivateKey, Request, Trust};
use protocol::message::{Content, Manifest};
use protocol::{BlobRef, Digest, Role, Round, Signed, SiteId, Timestamp};
use transport::{Config, Listener};

pub(crate) mod relay;

pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    Timestamp(since_epoch.as_millis() as u64)
}

/// A consortium with its authority at hand.
pub(crate) struct Consortium {
    pub(crate) authority: Authority,
    pub(crate) coordinator: Arc<Identity>,
}

impl Consortium {
    pub(crate) fn found() -> Self {
        let mut authority = Authority::found("headct".parse().unwrap(), now()).unwrap();
        let coordinator = enroll(&mut authority, "hub", Role::Coordinator);
        Self {
            authority,
            coordinator,
        }
    }

    pub(crate) fn enroll(&mut self, name: &str, role: Role) -> Arc<Identity> {
        enroll(&mut self.authority, name, role)
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(
            self.authority.root().clone(),
            self.authority.consortium().clone(),
        )
        .unwrap()
    }

    pub(crate) async fn listen(&self, config: Config) -> Listener {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Listener::bind(any, config, Arc::clone(&self.coordinator), self.trust())
            .await
            .unwrap()
    }
}

fn enroll(authority: &mut Authority, name: &str, role: Role) -> Arc<Identity> {
    let id: SiteId = name.parse().unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = Request::write(&id, &key).unwrap();
    let request = Request::read(request.as_bytes()).unwrap();
    let certificate = authority.approve(&request, role, now()).unwrap();
    Arc::new(Identity::new(Arc::new(key), certificate).unwrap())
}

pub(crate) fn manifest(blob: BlobRef, identity: &Identity) -> Signed<Manifest> {
    let manifest = Manifest {
        blob,
        run: "run-1".parse().unwrap(),
        round: Round(1),
        schema: Digest::of(b"schema"),
        content: Content::Model { step: 0 },
    };
    Signed::new(&manifest, |context, bytes| identity.sign(context, bytes)).unwrap()
}

/// Bytes that look random, the same for the same seed.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
