//! How fast the way is, in both directions, and how many packets it loses.

use std::time::Duration;

use protocol::message::Probe;
use tokio::time::timeout;
use transport::logging::chain;
use transport::{Congestion, Link, Packets, Throughput, TransferError, measure};

use crate::doctor::Finding;

/// Measures with little first, and then with what takes a few seconds.
pub(super) async fn examine(link: &Link, congestion: Congestion, tell: &mut impl FnMut(Finding)) {
    let measured = async {
        let first = measure(link, FIRST).await?;
        let slower = first.up.max(first.down).as_secs_f64();
        let times = (AIM.as_secs_f64() / slower).min((Probe::MAX_LEN / FIRST) as f64);
        if times < 2.0 {
            return Ok(first);
        }
        measure(link, FIRST * times as u64).await
    };
    tell(match timeout(PATIENCE, measured).await {
        Ok(Ok(throughput)) => rate(throughput, link),
        Ok(Err(error)) => unmeasured(&error),
        Err(_) => slow(format!(
            "less than {:.2} MiB/s",
            mib(FIRST) / PATIENCE.as_secs_f64()
        )),
    });
    if let Some(packets) = link.packets() {
        tell(loss(packets, congestion));
    }
}

fn unmeasured(error: &TransferError) -> Finding {
    Finding::skipped("throughput", chain(error))
}

fn rate(measured: Throughput, link: &Link) -> Finding {
    let path = link.path();
    judge(measured, &path.to_string())
}

fn judge(measured: Throughput, path: &str) -> Finding {
    let rate = |took: Duration| mib(measured.bytes) / took.as_secs_f64();
    let (up, down) = (rate(measured.up), rate(measured.down));
    let minutes = |rate: f64| mib(MODEL) / rate / 60.0;
    let detail = format!(
        "{up:.2} MiB/s up, {down:.2} MiB/s down over {path}: {:.1} and {:.1} min for a ViT-B of 344 MB",
        minutes(up),
        minutes(down)
    );
    if minutes(up.min(down)) <= LONG_MINUTES {
        Finding::good("throughput", detail)
    } else {
        slow(detail)
    }
}

fn slow(detail: String) -> Finding {
    let ask = format!(
        "ask IT: {:.0} Mbit/s to and from the coordinator",
        (MODEL * 8) as f64 / 1e6 / (LONG_MINUTES * 60.0)
    );
    Finding::poor("throughput", detail, ask)
}

fn loss(packets: Packets, congestion: Congestion) -> Finding {
    let share = packets.lost as f64 / packets.sent.max(1) as f64;
    let detail = format!("{:.1} % of {} packets lost", share * 100.0, packets.sent);
    if share <= GOOD_LOSS || congestion == Congestion::Bbr {
        return Finding::good("loss", detail);
    }
    let ask = "set congestion = \"bbr\" in transport.toml; ask IT: why this link loses packets";
    Finding::poor("loss", detail, ask)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes of the first measurement.
const FIRST: u64 = 1 << 20;
/// How long a measurement should take, each way.
const AIM: Duration = Duration::from_secs(3);
/// Longest time for all of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of 86 million parameters.
const MODEL: u64 = 344_000_000;
/// Time for a model, one way, that a round should not exceed.
const LONG_MINUTES: f64 = 15.0;
/// Loss at which Cubic still has a rate.
const GOOD_LOSS: f64 = 0.005;

#[cfg(test)]
mod tests {
    use super::super::super::Outcome;
    use super::*;

    #[test]
    fn link_is_judged_by_the_slower_way_of_a_model() {
        let measured = |up, down| Throughput {
            bytes: 1 << 20,
            up: Duration::from_secs_f64(up),
            down: Duration::from_secs_f64(down),
        };
        let good = judge(measured(0.5, 0.25), "QUIC");
        assert_eq!(good.outcome, Outcome::Good);
        assert_eq!(
            good.detail,
            "2.00 MiB/s up, 4.00 MiB/s down over QUIC: 2.7 and 1.4 min for a ViT-B of 344 MB"
        );
        let poor = judge(measured(4.0, 0.25), "QUIC");
        assert_eq!(poor.outcome, Outcome::Poor);
        assert!(poor.ask.unwrap().contains("3 Mbit/s"));
    }

    #[test]
    fn lossy_link_is_told_of_the_congestion_control_that_bears_it() {
        let packets = Packets {
            sent: 1000,
            lost: 20,
        };
        let poor = loss(packets, Congestion::Cubic);
        assert_eq!(poor.outcome, Outcome::Poor);
        assert!(poor.ask.unwrap().contains("bbr"));
        assert_eq!(loss(packets, Congestion::Bbr).outcome, Outcome::Good);
        let few = Packets {
            sent: 1000,
            lost: 1,
        };
        assert_eq!(loss(few, Congestion::Cubic).outcome, Outcome::Good);
    }
}
