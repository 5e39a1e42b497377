use object_store::memory::InMemory;
use protocol::transfer::MAX_CHUNKS;

use super::*;

fn bytes(len: u64) -> Vec<u8> {
    let bytes = (0..len).map(|index| (index.wrapping_mul(0x9e37_79b9) >> 16) as u8);
    bytes.collect()
}

struct Scene {
    _folder: tempfile::TempDir,
    source: BlobStore,
    sink: BlobStore,
    objects: Arc<InMemory>,
    bucket: Bucket,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(InMemory::new());
    let bucket = Bucket::new(Arc::clone(&objects) as _, Path::from("consortium/blobs"));
    Scene {
        source: BlobStore::open(folder.path().join("source")).unwrap(),
        sink: BlobStore::open(folder.path().join("sink")).unwrap(),
        _folder: folder,
        objects,
        bucket,
    }
}

#[tokio::test]
async fn what_was_put_comes_back_whole() {
    let scene = scene();
    for len in [0, 5, PART_LEN, 2 * PART_LEN + 7] {
        let bytes = bytes(len);
        let blob = scene.source.put(&bytes).unwrap();
        let local = scene.source.blob(blob.digest).unwrap();
        for _ in 0..2 {
            scene.bucket.put(&local).await.unwrap();
        }
        assert!(scene.bucket.contains(blob.digest).await.unwrap());
        let back = scene.bucket.fetch(blob.digest, &scene.sink).await.unwrap();
        assert_eq!(back.read(0..len).unwrap(), bytes);
    }
    let kept = scene.source.digests().unwrap();
    assert_eq!(scene.bucket.digests().await.unwrap(), kept);
}

#[tokio::test]
async fn bytes_that_are_not_what_their_name_says_are_not_stored() {
    let scene = scene();
    let digest = scene.source.put(&bytes(1000)).unwrap().digest;
    let path = scene.bucket.path(digest);
    for wrong in [bytes(999), vec![0; 1000]] {
        scene.objects.put(&path, wrong.into()).await.unwrap();
        let fetched = scene.bucket.fetch(digest, &scene.sink).await;
        assert!(matches!(
            fetched,
            Err(BucketError::Local(StoreError::Damaged { .. }))
        ));
    }
    assert!(scene.sink.digests().unwrap().is_empty());
    let missing = Digest::of(b"missing");
    assert!(matches!(
        scene.bucket.fetch(missing, &scene.sink).await,
        Err(BucketError::Local(StoreError::Missing(digest))) if digest == missing
    ));
}

#[tokio::test]
async fn a_blob_damaged_here_is_never_shown_there() {
    let scene = scene();
    let digest = scene.source.put(&bytes(2 * PART_LEN)).unwrap().digest;
    let blob = scene.source.blob(digest).unwrap();
    let mut damaged = std::fs::read(scene.source.path(digest)).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(scene.source.path(digest), damaged).unwrap();
    let put = scene.bucket.put(&blob).await;
    assert!(matches!(
        put,
        Err(BucketError::Local(StoreError::Damaged { .. }))
    ));
    assert!(!scene.bucket.contains(digest).await.unwrap());
}

#[tokio::test]
async fn collection_keeps_what_is_referred_to_and_what_is_no_blob() {
    let scene = scene();
    let mut blobs = Vec::new();
    for len in [10, 20] {
        let blob = scene.source.put(&bytes(len)).unwrap();
        let local = scene.source.blob(blob.digest).unwrap();
        scene.bucket.put(&local).await.unwrap();
        blobs.push(blob);
    }
    let note = Path::from("consortium/blobs/README");
    scene.objects.put(&note, "ours".into()).await.unwrap();
    let keep = BTreeSet::from([blobs[0].digest]);
    let collected = scene.bucket.collect(&keep).await.unwrap();
    let expected = Collected {
        blobs: 1,
        bytes: 20,
    };
    assert_eq!(collected, expected);
    assert_eq!(scene.bucket.digests().await.unwrap(), keep);
    assert!(scene.objects.head(&note).await.is_ok());
}

#[test]
fn the_largest_blob_fits_the_parts_that_s3_allows() {
    for len in [PART_LEN + 1, 344_000_000, MAX_CHUNKS * CHUNK_LEN] {
        assert!(len.div_ceil(part_len(len)) <= MAX_PARTS);
    }
}

#[test]
fn an_address_of_no_bucket_is_refused_without_its_secrets() {
    for address in ["not a url", "ftp://me:secret@example.org/place"] {
        let error = Bucket::open(address, []).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}
