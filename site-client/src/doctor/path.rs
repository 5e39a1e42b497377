//! The way to the coordinator: name, UDP, TCP, who answers, its clock, its consortium file.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use certs::{Trust, server_name, tls};
use protocol::bounded::Text;
use protocol::message::Hello;
use protocol::{Message, Timestamp, Version};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use transport::{Config, ConnectError, Connector, Link, PathChoice};

use super::identity::Known;
use super::{Finding, Outcome, Subject, chain};
use crate::clock;

mod throughput;

pub(super) async fn examine(subject: &Subject, known: Known, tell: &mut impl FnMut(Finding)) {
    let target = subject.coordinator.clone();
    let address = match spawn_blocking(move || resolve(&target)).await {
        Ok(Ok(address)) => {
            tell(Finding::good(
                "name",
                format!("{} is {address}", subject.coordinator),
            ));
            address
        }
        Ok(Err(why)) => {
            let ask = "ask IT: resolve this name here, or ask the coordinator for an address";
            return tell(Finding::bad(
                "name",
                format!("{}: {why}", subject.coordinator),
                ask,
            ));
        }
        Err(error) => return tell(Finding::skipped("name", error.to_string())),
    };
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
    let connect = async |path| {
        let config = Config {
            path,
            ..subject.transport.clone()
        };
        let connector = Connector::new(
            &subject.coordinator,
            config,
            identity.clone(),
            trust.clone(),
        )
        .map_err(|error| chain(&error))?;
        let start = Instant::now();
        let link = connector
            .connect()
            .await
            .map_err(|error| describe(&error))?;
        Ok::<_, String>((link, start.elapsed()))
    };
    let udp = connect(PathChoice::Quic).await;
    let tcp = connect(PathChoice::Tcp).await;
    let port = address.port();
    tell(reachability("UDP", &udp, port, tcp.is_ok()));
    tell(reachability("TCP", &tcp, port, udp.is_ok()));
    if subject.transport.proxy.is_none() {
        let trust = trust.clone();
        match spawn_blocking(move || who_answers(address, &trust)).await {
            Ok(finding) => tell(finding),
            Err(error) => tell(Finding::skipped("interception", error.to_string())),
        }
    } else {
        tell(Finding::skipped(
            "interception",
            "cannot be told apart through a proxy",
        ));
    }
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

fn describe(error: &ConnectError) -> String {
    chain(error)
}

fn reachability(
    path: &'static str,
    tried: &Result<(Link, Duration), String>,
    port: u16,
    other_works: bool,
) -> Finding {
    match tried {
        Ok((_, took)) => Finding::good(path, format!("connected in {} ms", took.as_millis())),
        Err(why) => unreachable(path, why, port, other_works),
    }
}

fn unreachable(path: &'static str, why: &str, port: u16, other_works: bool) -> Finding {
    let ask = match path {
        "UDP" => format!(
            "ask IT: allow outbound UDP to port {port} (QUIC), and answers to it, without inspection"
        ),
        _ => format!("ask IT: allow outbound TCP to port {port}, without TLS inspection"),
    };
    let outcome = if other_works {
        Outcome::Poor
    } else {
        Outcome::Bad
    };
    Finding {
        check: path,
        outcome,
        detail: why.to_owned(),
        ask: Some(ask),
    }
}

/// Looks at the certificate shown to anybody who knocks, before ours is shown.
fn who_answers(address: SocketAddr, trust: &Trust) -> Finding {
    let alpn: Vec<_> = Version::spoken().map(Version::alpn).collect();
    let name = server_name(trust.consortium().id());
    let answer = TcpStream::connect_timeout(&address, PATIENCE)
        .and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        })
        .and_then(|mut stream| tls::who_answers(&mut stream, &name, &alpn));
    match answer {
        Ok(answer) => {
            let is_ours = trust.coordinator(&answer.chain, clock::now());
            interception(
                &answer.issuer,
                is_ours.map(drop).map_err(|refusal| refusal.to_string()),
            )
        }
        Err(error) => Finding::skipped("interception", format!("nobody to look at: {error}")),
    }
}

fn interception(issuer: &str, is_ours: Result<(), String>) -> Finding {
    match is_ours {
        Ok(()) => Finding::good("interception", "none: the coordinator itself answers"),
        Err(why) => Finding::bad(
            "interception",
            format!("somebody else answers, with a certificate of {issuer:?} ({why})"),
            "ask IT: exempt this address from TLS inspection; if there is none, check the address",
        ),
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
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_at_the_middle_of_the_wait() {
        let at = |seconds: u64| Timestamp(1_795_464_000_000 + seconds * 1000);
        assert_eq!(skew(at(5), at(0), at(10)).outcome, Outcome::Good);
        assert_eq!(skew(at(65), at(0), at(10)).outcome, Outcome::Poor);
        assert_eq!(skew(at(400), at(0), at(10)).outcome, Outcome::Bad);
        assert_eq!(skew(at(0), at(390), at(410)).outcome, Outcome::Bad);
        assert_eq!(
            skew(at(0), at(390), at(410)).detail,
            "400.0 s apart from the coordinator's"
        );
    }

    #[test]
    fn blocked_path_is_fatal_only_if_the_other_is_blocked_too() {
        let udp = unreachable("UDP", "no answer within 5 s", 4433, true);
        assert_eq!(udp.outcome, Outcome::Poor);
        assert!(udp.ask.unwrap().contains("outbound UDP to port 4433"));
        let tcp = unreachable("TCP", "connection refused", 4433, false);
        assert_eq!(tcp.outcome, Outcome::Bad);
        assert!(tcp.ask.unwrap().contains("outbound TCP to port 4433"));
    }

    #[test]
    fn proxy_that_opens_tls_is_named() {
        let finding = interception("CN=Hospital Web Gateway", Err("not signed".to_owned()));
        assert_eq!(finding.outcome, Outcome::Bad);
        assert!(finding.detail.contains("Hospital Web Gateway"));
        assert!(
            finding
                .ask
                .unwrap()
                .contains("exempt this address from TLS inspection")
        );
    }

    #[test]
    fn address_that_is_no_name_is_refused() {
        assert!(resolve("127.0.0.1:4433").is_ok());
        assert!(resolve("no-port").is_err());
    }
}
