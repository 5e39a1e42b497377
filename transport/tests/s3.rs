//! A bucket behind a real S3 interface.
//!
//! Runs where `FMCT_TEST_BUCKET` is an address as `s3://bucket/prefix` that the environment's `AWS_…`
//! open; docs/TRANSPORT.md shows how, with a server on this machine.

use object_store::ObjectStoreExt;
use transport::{BlobStore, Bucket, BucketError};

/// More than one part of an upload, and less.
const LENGTHS: [usize; 3] = [0, 1000, 20_000_003];

#[tokio::test]
async fn blobs_come_back_whole_from_s3_and_damage_is_found() {
    let Ok(address) = std::env::var("FMCT_TEST_BUCKET") else {
        println!("skipped: FMCT_TEST_BUCKET names no bucket");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let source = BlobStore::open(folder.path().join("source")).unwrap();
    let sink = BlobStore::open(folder.path().join("sink")).unwrap();
    let bucket = Bucket::open(&address, std::env::vars()).unwrap();
    for len in LENGTHS {
        let bytes: Vec<u8> = (0..len).map(|index| (index * 31 % 251) as u8).collect();
        let blob = source.put(&bytes).unwrap();
        let local = source.blob(blob.digest).unwrap();
        for _ in 0..2 {
            bucket.put(&local).await.unwrap();
        }
        assert!(bucket.contains(blob.digest).await.unwrap());
        let back = bucket.fetch(blob.digest, &sink).await.unwrap();
        assert_eq!(back.read(0..len as u64).unwrap(), bytes);
    }
    let (here, there) = (source.digests().unwrap(), bucket.digests().await.unwrap());
    assert!(there.is_superset(&here));

    // Somebody else writes other bytes under a blob's name.
    let settings = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let url = url::Url::parse(&address).unwrap();
    let (objects, prefix) = object_store::parse_url_opts(&url, settings).unwrap();
    let digest = source.put(b"a model").unwrap().digest;
    let name = digest.to_string();
    let path = prefix.join(&name[..2]).join(name.as_str());
    objects
        .put(&path, b"another".to_vec().into())
        .await
        .unwrap();
    let fetched = bucket.fetch(digest, &sink).await;
    assert!(matches!(fetched, Err(BucketError::Local(_))), "{fetched:?}");
}
