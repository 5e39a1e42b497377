//! Blobs through a relay that delays, loses and holds back packets.
//!
//! ```text
//! cargo bench --profile release -p transport --bench weather [-- SCENE]
//! ```
//!
//! `slow`: 80 ms round trip, 2 % of packets lost each way, 7 Mbit/s, a blob of a minute; once with
//! each congestion control. `long`: 80 ms round trip and nothing else, 344 MB. Both ends and the
//! relay are one process; a transfer counts from its manifest until its receipt.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no figure")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::message::Manifest;
use protocol::{Message, Role};
use transport::{BlobStore, Config, Congestion, Connector, PathChoice, receive_blob, send_blob};

use harness::relay::{Relay, Weather};
use harness::{Consortium, bytes, manifest};

#[path = "../tests/harness/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod harness;

const ONE_WAY: Duration = Duration::from_millis(40);
/// 7 Mbit/s.
const SLOW: u64 = 875_000;
const MIB: f64 = 1_048_576.0;

fn main() {
    let scene = std::env::args().skip(1).find(|word| word != "--bench");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let wanted = |name: &str| scene.as_deref().is_none_or(|scene| scene == name);
    if wanted("slow") {
        let weather = Weather {
            delay: ONE_WAY,
            loss: 200,
            bytes_per_second: SLOW,
            ..Weather::default()
        };
        for congestion in [Congestion::Bbr, Congestion::Cubic] {
            let len = 60 * SLOW as usize;
            let rate = runtime.block_on(upload(weather, congestion, len));
            println!(
                "slow, {congestion:?}: {len} bytes at {:.0} bytes/s, {:.1} % of the limit",
                rate,
                rate / SLOW as f64 * 100.0
            );
        }
    }
    if wanted("long") {
        let weather = Weather {
            delay: ONE_WAY,
            ..Weather::default()
        };
        for congestion in [Congestion::Cubic, Congestion::Bbr] {
            let len = 344_000_000;
            let rate = runtime.block_on(upload(weather, congestion, len));
            println!(
                "long, {congestion:?}: {len} bytes at {:.1} MiB/s",
                rate / MIB
            );
        }
    }
}

/// Bytes a second of one blob.
async fn upload(weather: Weather, congestion: Congestion, len: usize) -> f64 {
    let mut consortium = Consortium::found();
    let identity = consortium.enroll("north", Role::Site);
    let config = Config {
        path: PathChoice::Quic,
        congestion,
        ..Config::default()
    };
    let mut listener = consortium.listen(config.clone()).await;
    let relay = Relay::start(listener.local_addr(), weather);
    let target = relay.address.to_string();
    let trust = consortium.trust();
    let connector = Connector::new(target, config, Arc::clone(&identity), trust).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = BlobStore::open(folder.path().join("source")).unwrap();
    let sink = BlobStore::open(folder.path().join("sink")).unwrap();
    let blob = source.put(&bytes(len, 9)).unwrap();
    let blob = source.blob(blob.digest).unwrap();
    let (site, hub) = tokio::join!(connector.connect(), listener.accept());
    let site = site.unwrap();
    let manifest = manifest(blob.blob(), &identity);
    let take = async {
        let Message::Manifest(signed) = hub.receive().await.unwrap() else {
            panic!("not a manifest")
        };
        let manifest: Manifest = hub.open(&signed).unwrap();
        receive_blob(&hub, &sink, manifest.blob, |_| {})
            .await
            .unwrap();
    };
    let start = Instant::now();
    let (sent, ()) = tokio::join!(send_blob(&site, &blob, &manifest, |_| {}), take);
    sent.unwrap();
    len as f64 / start.elapsed().as_secs_f64()
}
