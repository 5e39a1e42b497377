//! One coordinator and one site, connected.

use std::sync::Arc;

use certs::Identity;
use protocol::Role;
use transport::{Config, Connector, Link, Listener, PathChoice};

use crate::harness::Consortium;

/// One coordinator, one site, and the link between them.
pub(crate) struct Pair {
    pub(crate) consortium: Consortium,
    pub(crate) listener: Listener,
    pub(crate) connector: Connector,
    pub(crate) site_identity: Arc<Identity>,
    pub(crate) site: Link,
    pub(crate) hub: Link,
}

impl Pair {
    pub(crate) async fn over(path: PathChoice) -> Self {
        Self::with(Config {
            path,
            ..Config::default()
        })
        .await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let mut consortium = Consortium::found();
        let identity = consortium.enroll("north", Role::Site);
        let mut listener = consortium.listen(config.clone()).await;
        let target = listener.local_addr().to_string();
        let trust = consortium.trust();
        let connector = Connector::new(target, config, Arc::clone(&identity), trust).unwrap();
        let (site, hub) = tokio::join!(connector.connect(), listener.accept());
        let site = site.unwrap();
        Self {
            consortium,
            connector,
            site_identity: identity,
            site,
            hub,
            listener,
        }
    }

    /// A new link, as after a cut.
    pub(crate) async fn reconnect(&mut self) {
        let (site, hub) = tokio::join!(self.connector.connect(), self.listener.accept());
        (self.site, self.hub) = (site.unwrap(), hub);
    }
}
