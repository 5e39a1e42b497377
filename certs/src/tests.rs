//! What holds across the modules: admission, revocation, renewal, enrollment, handshakes.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Role, SiteId, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::{Authority, Identity, PrivateKey, Request, Trust};

mod enrollment;
mod handshake;
mod hostile;
mod membership;
mod renewal;

const NOW: Timestamp = Timestamp(1_795_464_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn id(name: &str) -> SiteId {
    name.parse().unwrap()
}

/// A consortium, and what its members hold.
struct Consortium {
    authority: Authority,
}

impl Consortium {
    fn new(name: &str) -> Self {
        Self {
            authority: Authority::found(name.parse().unwrap(), NOW).unwrap(),
        }
    }

    fn admit(&mut self, name: &str, role: Role) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let request = Request::read(Request::write(&id(name), &key).unwrap().as_bytes()).unwrap();
        let certificate = match role {
            Role::Coordinator => self.authority.admit(&id(name), key.public(), role, NOW),
            Role::Site | Role::Observer => self.authority.approve(&request, role, NOW),
        };
        Identity::new(Arc::new(key), certificate.unwrap()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::new(
            self.authority.root().clone(),
            self.authority.consortium().clone(),
        )
        .unwrap()
    }
}

fn chain(identity: &Identity) -> [CertificateDer<'static>; 1] {
    [identity.certificate().clone()]
}
