//! `watch`: what an observer sees of the consortium's runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use certs::{Home, Passphrase};
use protocol::message::Watch;
use protocol::{CloseCode, Message, Role};
use transport::{Config, Connector};

/// Prints the coordinator's overview of its runs, the one that its `status` shows: one line of JSON
/// for each.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `enroll` made; the identity in it is an observer's.
    #[arg(long, env = "FMCT_SITE_DIR")]
    dir: PathBuf,
    /// The coordinator, as host:port.
    #[arg(long, env = "FMCT_COORDINATOR")]
    coordinator: String,
    /// Print each overview as it comes, at most two a second, over new connections too, until killed.
    #[arg(long)]
    follow: bool,
    /// Settings of the connection [default: transport.toml in --dir, if there is one].
    #[arg(long)]
    transport: Option<PathBuf>,
    /// File (mode 0600) whose first line opens the private key.
    #[arg(long, env = "FMCT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = args.passphrase_file.as_deref();
    let passphrase = file.map(Passphrase::from_file).transpose()?;
    let (identity, trust) = Home::new(&args.dir).open(passphrase.as_ref())?;
    let (id, role) = (identity.id(), identity.role());
    ensure!(
        role == Role::Observer,
        "watch: {id}: expected an observer's identity, found a {role}'s"
    );
    let transport = Config::read(args.transport.as_deref(), &args.dir)?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        let connector = Connector::new(args.coordinator, transport, Arc::new(identity), trust)?;
        watch(&connector, args.follow, io::stdout()).await
    })
}

/// Writes one overview, or each as it comes until the coordinator will not have us any more.
async fn watch(connector: &Connector, follow: bool, mut out: impl Write) -> anyhow::Result<()> {
    loop {
        let link = if follow {
            connector.connect_until_done().await
        } else {
            connector.connect().await?
        };
        // If the link has ended already, its reader says so.
        let _ = link.send(Watch { follow }).await;
        let end = loop {
            match link.receive().await {
                Ok(Message::Overview(overview)) => {
                    out.write_all(&overview.json)?;
                    out.write_all(b"\n")?;
                    out.flush()?;
                    if !follow {
                        link.finish(CloseCode::Done).await;
                        return Ok(());
                    }
                }
                Ok(Message::Rejection(rejection)) => {
                    bail!("watch: refused by the coordinator: {}", rejection.reason)
                }
                Ok(_) => {}
                Err(end) => break end,
            }
        };
        if !follow || !end.is_temporary() {
            return Err(end.into());
        }
        tracing::info!(%end, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use certs::{Approval, Authority, AuthorityHome, Identity, PrivateKey, Request, Trust};
    use protocol::bounded::List;
    use protocol::message::Overview;
    use site_client::clock;
    use transport::{Link, Listener};

    use super::*;

    /// A coordinator, and an observer's way to it.
    async fn scene() -> (Listener, Connector) {
        let now = clock::now();
        let mut authority = Authority::found("headct".parse().unwrap(), now).unwrap();
        let mut admit = |name: &str, role| {
            let key = PrivateKey::generate().unwrap();
            let request = Request::write(&name.parse().unwrap(), &key).unwrap();
            let request = Request::read(request.as_bytes()).unwrap();
            let certificate = authority.approve(&request, role, now).unwrap();
            Arc::new(Identity::new(Arc::new(key), certificate).unwrap())
        };
        let hub = admit("hub", Role::Coordinator);
        let observer = admit("auditor", Role::Observer);
        let trust = Trust::new(authority.root().clone(), authority.consortium().clone()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, Config::default(), hub, trust.clone());
        let listener = listener.await.unwrap();
        let target = listener.local_addr().to_string();
        // The second connection of a test comes at once.
        let config = Config {
            reconnect_base_seconds: 0.001,
            reconnect_cap_seconds: 0.001,
            ..Config::default()
        };
        let connector = Connector::new(target, config, observer, trust).unwrap();
        (listener, connector)
    }

    /// Runs the command with the identity of a role, where no coordinator is.
    fn alone(role: Role) -> String {
        let (folder, now) = (tempfile::tempdir().unwrap(), clock::now());
        let authority = AuthorityHome::new(folder.path().join("hub"));
        let (name, hub) = ("headct".parse().unwrap(), "hub".parse().unwrap());
        let founded = authority.found(name, &hub, None, now).unwrap();
        let root = founded.root().fingerprint().to_string().parse().unwrap();
        let dir = folder.path().join("auditor");
        let home = Home::new(&dir);
        let id = "auditor".parse().unwrap();
        let request = home.enroll(&id, &root, None).unwrap();
        let answer = authority.approve(&request, role, None, now).unwrap();
        let answer = Approval::read(&std::fs::read(answer).unwrap()).unwrap();
        home.accept(&answer, now).unwrap();
        std::fs::write(dir.join("transport.toml"), "path = \"tcp\"").unwrap();
        let args = Args {
            dir,
            coordinator: "127.0.0.1:1".to_owned(),
            follow: false,
            transport: None,
            passphrase_file: None,
        };
        run(args).unwrap_err().to_string()
    }

    #[test]
    fn only_an_observer_asks_and_is_told_that_nobody_is_there() {
        let refused = alone(Role::Site);
        let expected = "watch: auditor: expected an observer's identity, found a site's";
        assert_eq!(refused, expected);
        let unreached = alone(Role::Observer);
        assert!(unreached.starts_with("TCP: "), "{unreached}");
    }

    async fn overview(link: &Link, json: &str) {
        let json = List::new(json.as_bytes().to_vec()).unwrap();
        link.send(Overview { json }).await.unwrap();
    }

    async fn asked(listener: &mut Listener) -> (Link, bool) {
        let link = listener.accept().await;
        loop {
            if let Message::Watch(watch) = link.receive().await.unwrap() {
                return (link, watch.follow);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_overview_is_one_line_and_the_end() {
        let (mut listener, connector) = scene().await;
        let mut out = Vec::new();
        let hub = async {
            let (link, follow) = asked(&mut listener).await;
            assert!(!follow);
            overview(&link, r#"{"at":1}"#).await;
            link
        };
        let (watched, _link) = tokio::join!(watch(&connector, false, &mut out), hub);
        watched.unwrap();
        assert_eq!(out, b"{\"at\":1}\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn overviews_are_followed_over_connections_until_the_observer_is_shut_out() {
        let (mut listener, connector) = scene().await;
        let mut out = Vec::new();
        let hub = async {
            for (at, end) in [(1, CloseCode::Shutdown), (3, CloseCode::NotMember)] {
                let (link, follow) = asked(&mut listener).await;
                assert!(follow);
                overview(&link, &at.to_string()).await;
                overview(&link, &(at + 1).to_string()).await;
                link.finish(end).await;
            }
        };
        let (watched, ()) = tokio::join!(watch(&connector, true, &mut out), hub);
        let end = watched.unwrap_err().to_string();
        assert!(end.ends_with("not a member of the consortium"), "{end}");
        assert_eq!(out, b"1\n2\n3\n4\n");
    }
}
