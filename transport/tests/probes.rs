//! How fast a link is.

use protocol::message::{Probe, Want};
use protocol::{Digest, Message};
use transport::{PathChoice, TransferError, measure};

use crate::pair::Pair;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_measured_both_ways_and_carries_messages_after() {
    for path in [PathChoice::Quic, PathChoice::Tcp] {
        let pair = Pair::over(path).await;
        // Not a whole number of chunks, more than a window of them, and more than is answered.
        for (bytes, moved) in [(1, 1), (20_000_001, 20_000_001), (1 << 40, Probe::MAX_LEN)] {
            let before = pair.site.chunk_bytes_sent();
            let throughput = measure(&pair.site, bytes).await.unwrap();
            assert_eq!(throughput.bytes, moved);
            assert!(!throughput.up.is_zero() && !throughput.down.is_zero());
            assert_eq!(pair.site.chunk_bytes_sent(), before, "no blob was sent");
        }
        let want = Want {
            blob: Digest::of(b"after"),
        };
        pair.site.send(want).await.unwrap();
        assert_eq!(pair.hub.receive().await, Ok(Message::Want(want)));
        assert_eq!(pair.site.packets().is_some(), path == PathChoice::Quic);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_measurement_at_a_time_is_made_on_a_link() {
    let pair = Pair::over(PathChoice::Quic).await;
    let (one, other) = tokio::join!(
        measure(&pair.site, Probe::MAX_LEN),
        measure(&pair.site, Probe::MAX_LEN)
    );
    assert!(one.is_ok());
    assert!(matches!(other, Err(TransferError::Busy)), "{other:?}");
}
