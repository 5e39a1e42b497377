//! Blobs over real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::message::{Manifest, Reason, Rejection, Subject, Want};
use protocol::transfer::CHUNK_LEN;
use protocol::{BlobRef, CloseCode, Message};
use transport::{
    BlobStore, Config, Link, Path, PathChoice, TransferError, receive_blob, send_blob,
};

use crate::harness::{bytes, manifest};
use crate::pair::Pair;

struct Stores {
    _folder: tempfile::TempDir,
    source: BlobStore,
    sink: BlobStore,
}

fn stores() -> Stores {
    let folder = tempfile::tempdir().unwrap();
    let source = BlobStore::open(folder.path().join("source")).unwrap();
    let sink = BlobStore::open(folder.path().join("sink")).unwrap();
    Stores {
        _folder: folder,
        source,
        sink,
    }
}

/// Takes the next blob that the peer announces, as an application does.
async fn take(link: &Link, store: &BlobStore) -> Result<BlobRef, TransferError> {
    let Message::Manifest(signed) = link.receive().await? else {
        panic!("not a manifest")
    };
    let manifest: Manifest = link.open(&signed).unwrap();
    receive_blob(link, store, manifest.blob, |_| {}).await?;
    Ok(manifest.blob)
}

async fn upload(path: PathChoice, expected: Path) {
    let stores = stores();
    let pair = Pair::over(path).await;
    assert_eq!((pair.site.path(), pair.hub.path()), (expected, expected));
    assert_eq!(pair.hub.peer().id().as_str(), "north");
    for len in [0, 1, CHUNK_LEN as usize, 3 * CHUNK_LEN as usize + 5] {
        let bytes = bytes(len, 1);
        let blob = stores
            .source
            .blob(stores.source.put(&bytes).unwrap().digest)
            .unwrap();
        let manifest = manifest(blob.blob(), &pair.site_identity);
        let (sent, taken) = tokio::join!(
            send_blob(&pair.site, &blob, &manifest, |_| {}),
            take(&pair.hub, &stores.sink)
        );
        assert_eq!(taken.unwrap(), blob.blob());
        let sent = sent.unwrap();
        assert_eq!(sent.bytes, len as u64);
        assert_eq!(pair.site.open(&sent.receipt).unwrap().blob, blob.blob());
        stores
            .sink
            .blob(blob.blob().digest)
            .unwrap()
            .verify()
            .unwrap();

        // Again: no chunk is sent, the receipt comes at once.
        let (sent, taken) = tokio::join!(
            send_blob(&pair.site, &blob, &manifest, |_| {}),
            take(&pair.hub, &stores.sink)
        );
        taken.unwrap();
        assert_eq!(sent.unwrap().bytes, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_arrives_durably_over_quic() {
    upload(PathChoice::Quic, Path::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_arrives_durably_over_tcp() {
    upload(PathChoice::Tcp, Path::Tcp).await;
}

async fn download(path: PathChoice) {
    let stores = stores();
    let pair = Pair::over(path).await;
    let blob = stores
        .source
        .put(&bytes(5 * CHUNK_LEN as usize + 1, 2))
        .unwrap();
    let serve = async {
        let Message::Want(Want { blob }) = pair.hub.receive().await.unwrap() else {
            panic!()
        };
        let blob = stores.source.blob(blob).unwrap();
        let manifest = manifest(blob.blob(), &pair.consortium.coordinator);
        send_blob(&pair.hub, &blob, &manifest, |_| {})
            .await
            .unwrap()
    };
    let progress = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&progress);
    let note = move |bytes| seen.store(bytes, Ordering::Relaxed);
    let (sent, got) = tokio::join!(serve, receive_blob(&pair.site, &stores.sink, blob, note));
    got.unwrap();
    assert_eq!(sent.bytes, blob.len);
    assert_eq!(progress.load(Ordering::Relaxed), blob.len);
    stores.sink.blob(blob.digest).unwrap().verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn model_is_fetched_over_quic() {
    download(PathChoice::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn model_is_fetched_over_tcp() {
    download(PathChoice::Tcp).await;
}

/// Kills the connection again and again while a blob is under way.
async fn survive_kills(path: PathChoice, kills: u64) {
    let config = Config {
        path,
        chunks_in_flight: 4,
        ..Config::default()
    };
    // What is in flight, and what has arrived but is not on disk yet.
    let window = (u64::from(config.chunks_in_flight) + 4) * CHUNK_LEN;
    let stores = stores();
    let mut pair = Pair::with(config).await;
    // ViT-B in float32.
    let blob = stores.source.put(&bytes(344_000_000, 3)).unwrap();
    let blob = stores.source.blob(blob.digest).unwrap();
    let manifest = manifest(blob.blob(), &pair.site_identity);
    // The receiver kills once so much is on disk: evenly, from the first chunk to the last.
    let marks = (1..=kills).map(|kill| kill * blob.blob().len / (kills + 2));
    let mut sent = 0;
    for mark in marks {
        let hub = pair.hub.clone();
        let receive = async {
            let Message::Manifest(_) = pair.hub.receive().await.unwrap() else {
                panic!()
            };
            let kill = move |held| {
                if held >= mark {
                    hub.close(CloseCode::Shutdown);
                }
            };
            receive_blob(&pair.hub, &stores.sink, blob.blob(), kill).await
        };
        let (sending, receiving) =
            tokio::join!(send_blob(&pair.site, &blob, &manifest, |_| {}), receive);
        assert!(
            matches!(sending, Err(TransferError::Link(_))),
            "{sending:?}"
        );
        assert!(
            matches!(receiving, Err(TransferError::Link(_))),
            "{receiving:?}"
        );
        sent += pair.site.chunk_bytes_sent();
        pair.reconnect().await;
    }
    let (last, taken) = tokio::join!(
        send_blob(&pair.site, &blob, &manifest, |_| {}),
        take(&pair.hub, &stores.sink)
    );
    taken.unwrap();
    last.unwrap();
    sent += pair.site.chunk_bytes_sent();
    assert!(sent <= blob.blob().len + kills * window);
    stores
        .sink
        .blob(blob.blob().digest)
        .unwrap()
        .verify()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_over_quic_lose_at_most_a_window_each() {
    survive_kills(PathChoice::Quic, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_over_tcp_lose_at_most_a_window_each() {
    survive_kills(PathChoice::Tcp, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_blob_is_an_error_with_the_reason_at_the_sender() {
    let stores = stores();
    let pair = Pair::over(PathChoice::Quic).await;
    let blob = stores.source.put(b"unasked").unwrap();
    let blob = stores.source.blob(blob.digest).unwrap();
    let manifest = manifest(blob.blob(), &pair.site_identity);
    let refuse = async {
        let Message::Manifest(_) = pair.hub.receive().await.unwrap() else {
            panic!()
        };
        let subject = Subject::Blob(blob.blob().digest);
        pair.hub
            .send(Rejection {
                subject,
                reason: Reason::NotInPlan,
            })
            .await
            .unwrap();
    };
    let (sent, ()) = tokio::join!(send_blob(&pair.site, &blob, &manifest, |_| {}), refuse);
    assert!(matches!(
        sent,
        Err(TransferError::Rejected(Reason::NotInPlan))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_damaged_at_the_sender_is_never_sent_and_no_longer_waited_for() {
    let stores = stores();
    let pair = Pair::over(PathChoice::Quic).await;
    let blob = stores
        .source
        .put(&bytes(2 * CHUNK_LEN as usize, 4))
        .unwrap();
    let opened = stores.source.blob(blob.digest).unwrap();
    let mut damaged = std::fs::read(stores.source.path(blob.digest)).unwrap();
    damaged[5] ^= 1;
    std::fs::write(stores.source.path(blob.digest), damaged).unwrap();
    let manifest = manifest(blob, &pair.site_identity);
    let hub = pair.hub.clone();
    let sink = stores.sink.clone();
    let receiving = tokio::spawn(async move { take(&hub, &sink).await });
    let sent = send_blob(&pair.site, &opened, &manifest, |_| {}).await;
    assert!(matches!(sent, Err(TransferError::Store(_))), "{sent:?}");
    let taken = receiving.await.unwrap();
    let told = matches!(taken, Err(TransferError::Rejected(Reason::Busy)));
    assert!(told, "{taken:?}");
    assert!(!stores.sink.contains(blob.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_not_held_up_by_a_blob() {
    for path in [PathChoice::Quic, PathChoice::Tcp] {
        let stores = stores();
        let pair = Pair::over(path).await;
        let blob = stores
            .source
            .put(&bytes(16 * CHUNK_LEN as usize, 5))
            .unwrap();
        let blob = stores.source.blob(blob.digest).unwrap();
        let manifest = manifest(blob.blob(), &pair.site_identity);
        let site = pair.site.clone();
        // Nobody takes the blob's chunks, so it fills every window there is.
        let stuck = tokio::spawn(async move { send_blob(&site, &blob, &manifest, |_| {}).await });
        let Message::Manifest(_) = pair.hub.receive().await.unwrap() else {
            panic!()
        };
        for round in 0..100 {
            let want = Want {
                blob: protocol::Digest::of(&[round]),
            };
            pair.site.send(want).await.unwrap();
            let Message::Want(got) = pair.hub.receive().await.unwrap() else {
                panic!()
            };
            assert_eq!(got, want);
        }
        pair.hub.close(CloseCode::Done);
        assert!(stuck.await.unwrap().is_err());
    }
}
