//! The way to the coordinator: name, UDP, TCP, who answers, its clock, its consortium file.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use certs::{Trust, server_name, tls};
use protocol::bounded::Text;
use protocol::message::Hello;
use protocol::{Message, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use transport::logging::chain;
use transport::{Config, ConnectError, Connector, Link, PathChoice};

use super::identity::Known;
use super::{Finding, Outcome, Subject};
use crate::clock;

mod throughput;

pub(super) async fn examine(subject: &Subject, known: Known, tell: &mut impl FnMut(Finding)) {
    let target = subject.coordinator.clone();
    let resolved = match spawn_blocking(move || resolve(&target)).await {
        Ok(resolved) => resolved,
        Err(error) => return tell(Finding::skipped("name", error.to_string())),
    };
    let (finding, port) = name(
        &subject.coordinator,
        resolved,
        subject.transport.proxy.as_deref(),
    );
    tell(finding);
    let Some(port) = port else { return };
    let Known {
        identity: Some(identity),
        trust: Some(trust),
    } = known
    else {
        let why = "needs the key and the certificate";
        for check in ["UDP", "TCP", "interception", "clock", "throughput"] {
            tell(Finding::skipped(check, why));
        }
        return;
    };
    let connector = |path| {
        let config = Config {
            path,
            ..subject.transport.clone()
        };
        let (identity, trust) = (identity.clone(), trust.clone());
        Connector::new(&subject.coordinator, config, identity, trust).map_err(|error| chain(&error))
    };
    let connect = async |path| {
        let connector = connector(path).map_err(Unreached::here)?;
        let start = Instant::now();
        let link = connector.connect().await.map_err(Unreached::there)?;
        Ok::<_, Unreached>((link, start.elapsed()))
    };
    // The coordinator keeps the newest connection of a site only: the one to go on with comes last.
    let tcp = connect(PathChoice::Tcp).await;
    let udp = connect(PathChoice::Quic).await;
    let (seen, interception) = match connector(PathChoice::Tcp) {
        Ok(connector) => look(&connector, &trust).await,
        Err(why) => (Seen::Nobody, Finding::skipped("interception", why)),
    };
    tell(reachability("UDP", &udp, port, tcp.is_ok(), seen));
    tell(reachability("TCP", &tcp, port, udp.is_ok(), seen));
    tell(interception);
    match udp.or(tcp) {
        Ok((link, _)) => {
            greet(&link, &trust, tell).await;
            throughput::examine(&link, subject.transport.congestion, tell).await;
            link.finish(protocol::CloseCode::Done).await;
        }
        Err(_) => {
            for check in ["clock", "throughput"] {
                tell(Finding::skipped(check, "needs a connection"));
            }
        }
    }
}

fn resolve(target: &str) -> Result<SocketAddr, String> {
    let mut addresses = target
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no address".to_owned())
}

/// What was found of the name, and the port to go on with if that makes sense.
fn name(
    coordinator: &str,
    resolved: Result<SocketAddr, String>,
    proxy: Option<&str>,
) -> (Finding, Option<u16>) {
    let port = |coordinator: &str| coordinator.rsplit_once(':')?.1.parse().ok();
    match (resolved, proxy, port(coordinator)) {
        (Ok(address), ..) => {
            let detail = format!("{coordinator} is {address}");
            (Finding::good("name", detail), Some(address.port()))
        }
        (Err(why), Some(proxy), Some(port)) => {
            let detail = format!("{coordinator}: {why}; left to the proxy {proxy}");
            let ask = "if TCP connects, nothing: it is used by itself. For UDP ask IT: resolve this \
                       name here";
            (Finding::poor("name", detail, ask), Some(port))
        }
        (Err(why), ..) => {
            let ask = "ask IT: resolve this name here, or ask the coordinator for an address";
            let detail = format!("{coordinator}: {why}");
            (Finding::bad("name", detail, ask), None)
        }
    }
}

/// Why there is no connection.
struct Unreached {
    why: String,
    /// Whether somebody answered, and speaks no version that we speak, by an alert that anybody can
    /// send.
    is_version: bool,
}

/// Whose certificate is shown at the coordinator's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Coordinator,
    Other,
    /// None was.
    Nobody,
}

impl Unreached {
    fn here(why: String) -> Self {
        let is_version = false;
        Self { why, is_version }
    }

    fn there(error: ConnectError) -> Self {
        Self {
            why: chain(&error),
            is_version: matches!(error, ConnectError::Version),
        }
    }
}

fn reachability(
    path: &'static str,
    tried: &Result<(Link, Duration), Unreached>,
    port: u16,
    other_works: bool,
    seen: Seen,
) -> Finding {
    match tried {
        Ok((_, took)) => Finding::good(path, format!("connected in {} ms", took.as_millis())),
        Err(unreached) => unreachable(path, unreached, port, other_works, seen),
    }
}

fn unreachable(
    path: &'static str,
    unreached: &Unreached,
    port: u16,
    other_works: bool,
    seen: Seen,
) -> Finding {
    let (detail, ask) = if unreached.is_version {
        let (detail, ask) = refused_version(seen);
        (detail.to_owned(), ask.to_owned())
    } else {
        let ask = match path {
            "UDP" => format!(
                "ask IT: allow outbound UDP to port {port} (QUIC), and answers to it, without inspection"
            ),
            _ => format!("ask IT: allow outbound TCP to port {port}, without TLS inspection"),
        };
        (unreached.why.clone(), ask)
    };
    let outcome = if other_works {
        Outcome::Poor
    } else {
        Outcome::Bad
    };
    Finding {
        check: path,
        outcome,
        detail,
        ask: Some(ask),
    }
}

/// What it means that our versions are refused, and what to ask for: any TLS server does so.
fn refused_version(seen: Seen) -> (&'static str, &'static str) {
    match seen {
        Seen::Coordinator => (
            "the coordinator speaks no protocol version that is spoken here",
            "ask the coordinator which version it runs, and upgrade the older program",
        ),
        Seen::Other => (
            "somebody else answers, who does not speak our protocol",
            "as for interception, below",
        ),
        Seen::Nobody => (
            "whoever answers speaks no protocol version that is spoken here, and was not seen",
            "ask the coordinator which version it runs; if it is ours, ask IT who answers at this \
             address",
        ),
    }
}

/// Looks at the certificate shown to anybody who knocks, through the proxy if there is one, before
/// ours is shown.
async fn look(connector: &Connector, trust: &Trust) -> (Seen, Finding) {
    let stream = match connector.open_tcp().await {
        Ok(stream) => stream.into_std(),
        Err(error) => return nobody(&chain(&error)),
    };
    let trust = trust.clone();
    let looked = spawn_blocking(move || stream.and_then(|stream| who_answers(stream, &trust)));
    match looked.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => nobody(&error.to_string()),
        Err(error) => nobody(&error.to_string()),
    }
}

fn nobody(why: &str) -> (Seen, Finding) {
    let finding = Finding::skipped("interception", format!("nobody to look at: {why}"));
    (Seen::Nobody, finding)
}

fn who_answers(mut stream: TcpStream, trust: &Trust) -> std::io::Result<(Seen, Finding)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let name = server_name(trust.consortium().id());
    // No version is named: who does not know it would show no certificate.
    let answer = tls::who_answers(&mut stream, &name, Vec::new())?;
    let is_ours = trust.coordinator(&answer.chain, clock::now());
    let is_ours = is_ours.map(drop).map_err(|refusal| refusal.to_string());
    Ok(interception(&answer.issuer, is_ours))
}

fn interception(issuer: &str, is_ours: Result<(), String>) -> (Seen, Finding) {
    match is_ours {
        Ok(()) => {
            let finding = Finding::good("interception", "none: the coordinator itself answers");
            (Seen::Coordinator, finding)
        }
        Err(why) => {
            let finding = Finding::bad(
                "interception",
                format!("somebody else answers, with a certificate of {issuer:?} ({why})"),
                "ask IT: exempt this address from TLS inspection; if there is none, check the address",
            );
            (Seen::Other, finding)
        }
    }
}

/// Introduces us, and compares clocks and consortium files.
async fn greet(link: &Link, trust: &Trust, tell: &mut impl FnMut(Finding)) {
    let consortium = trust.consortium();
    let sent = clock::now();
    let hello = Hello {
        software: Text::lossy(concat!("fmct-site doctor ", env!("CARGO_PKG_VERSION"))),
        consortium: consortium.id().clone(),
        consortium_version: consortium.version(),
        time: sent,
    };
    let answer = async {
        link.send(hello).await?;
        loop {
            if let Message::Welcome(welcome) = link.receive().await? {
                return Ok::<_, transport::LinkError>(welcome);
            }
        }
    };
    match timeout(PATIENCE, answer).await {
        Ok(Ok(welcome)) => {
            let received = clock::now();
            tell(skew(welcome.time, sent, received));
            let (theirs, ours) = (welcome.consortium_version, consortium.version());
            tell(if theirs < ours {
                Finding::bad(
                    "its file",
                    format!("version {theirs}, but {ours} was seen before"),
                    "ask the coordinator whether it was restored from an old backup",
                )
            } else {
                Finding::good("its file", format!("version {theirs}, ours is {ours}"))
            });
        }
        Ok(Err(error)) => tell(Finding::skipped("clock", error.to_string())),
        Err(_) => tell(Finding::skipped(
            "clock",
            "the coordinator did not answer our hello",
        )),
    }
}

/// The coordinator's clock against the middle of our wait for it.
fn skew(theirs: Timestamp, sent: Timestamp, received: Timestamp) -> Finding {
    let middle = Timestamp(sent.0.midpoint(received.0));
    let apart = theirs.distance(middle);
    let detail = format!("{:.1} s apart from the coordinator's", apart.as_secs_f64());
    if apart <= GOOD_SKEW {
        Finding::good("clock", detail)
    } else {
        let ask = "ask IT: set this machine's clock by NTP";
        let outcome = if apart <= certs::CLOCK_SKEW {
            Outcome::Poor
        } else {
            Outcome::Bad
        };
        Finding {
            check: "clock",
            outcome,
            detail,
            ask: Some(ask.to_owned()),
        }
    }
}

/// How long anybody may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Difference between clocks that nobody needs to look at.
const GOOD_SKEW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
