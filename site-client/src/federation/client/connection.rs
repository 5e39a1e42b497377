//! Links that come and go, and the certificate that is shown on them.

use std::sync::Arc;

use protocol::bounded::{List, Text};
use protocol::message::{Hello, Renew};
use transport::Link;

use super::Site;
use crate::clock;
use crate::federation::session::Event;

impl Site {
    pub(super) async fn connected(&mut self, link: Link) {
        self.serial += 1;
        let consortium = self.trust.consortium();
        let hello = Hello {
            software: Text::lossy(concat!("fmct-site ", env!("CARGO_PKG_VERSION"))),
            consortium: consortium.id().clone(),
            consortium_version: consortium.version(),
            time: clock::now(),
        };
        // If the link has ended already, its reader says so.
        let _ = link.send(hello).await;
        self.renew_if_due(&link).await;
        self.link = Some(link);
    }

    /// Asks for the next certificate when a third of this one's life is left.
    pub(super) async fn renew_if_due(&self, link: &Link) {
        if !self.identity.renewal_due(clock::now()) {
            return;
        }
        let request = self.identity.renewal_request().ok().map(List::new);
        if let Some(Ok(request)) = request {
            let _ = link.send(Renew { request }).await;
        }
    }

    /// Shows the next certificate from the next connection on.
    pub(super) fn renewed(&mut self, certificate: Vec<u8>) {
        let (home, now) = (&self.config.home, clock::now());
        match home.renew(&self.identity, &self.trust, certificate, now) {
            Ok(identity) => {
                let until = certs::utc(identity.expires());
                self.identity = Arc::new(identity);
                match self.connector.set_identity(Arc::clone(&self.identity)) {
                    Ok(()) => tracing::info!(until, "certificate renewed"),
                    Err(error) => tracing::warn!(%error, "renewed certificate not used"),
                }
            }
            Err(error) => tracing::warn!(%error, "renewed certificate refused"),
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.link = None;
        if let Some(active) = &mut self.active {
            active.fetching = None;
            active.sending = None;
            active.session.handle(Event::Disconnected);
        }
    }
}
