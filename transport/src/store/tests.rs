use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::*;

const MIB: usize = CHUNK_LEN as usize;

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|index| (index.wrapping_mul(0x9e37_79b9) >> 16) as u8)
        .collect()
}

fn store() -> (tempfile::TempDir, BlobStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    (folder, store)
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_is_put_is_read_under_the_digest_of_its_bytes() {
    let (_folder, store) = store();
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5] {
        let bytes = bytes(len);
        let blob = store.put(&bytes).unwrap();
        assert_eq!(blob, BlobRef::of(&bytes), "{len} bytes");
        assert!(store.contains(blob.digest));
        let open = store.blob(blob.digest).unwrap();
        assert_eq!(open.read(0..blob.len).unwrap(), bytes);
        assert_eq!(fs::read(store.path(blob.digest)).unwrap(), bytes);
    }
}

#[test]
fn bytes_in_small_writes_make_the_same_blob() {
    let (_folder, store) = store();
    let bytes = bytes(2 * MIB + 77);
    let mut writer = store.writer().unwrap();
    for piece in bytes.chunks(100_003) {
        writer.write_all(piece).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), BlobRef::of(&bytes));
}

#[test]
fn any_range_is_read_and_none_beyond_the_end() {
    let (_folder, store) = store();
    let bytes = bytes(2 * MIB + 77);
    let blob = store.blob(store.put(&bytes).unwrap().digest).unwrap();
    for (start, end) in [
        (0, 0),
        (5, 9),
        (MIB - 1, MIB + 1),
        (MIB, 2 * MIB),
        (3, 2 * MIB + 77),
    ] {
        assert_eq!(
            blob.read(start as u64..end as u64).unwrap(),
            bytes[start..end]
        );
    }
    let end = blob.blob().len + 1;
    assert!(matches!(blob.read(0..end), Err(StoreError::Range { .. })));
}

#[test]
fn a_flipped_bit_on_disk_is_an_error_that_names_the_chunk() {
    let (_folder, store) = store();
    let digest = store.put(&bytes(2 * MIB + 77)).unwrap().digest;
    flip(&store.path(digest), MIB as u64 + 9);
    let blob = store.blob(digest).unwrap();
    assert!(blob.chunk(0).is_ok());
    assert!(matches!(
        blob.chunk(1),
        Err(StoreError::Damaged { chunk: 1, .. })
    ));
    assert!(matches!(
        blob.verify(),
        Err(StoreError::Damaged { chunk: 1, .. })
    ));
    assert!(blob.read(5..6).is_ok());
}

#[test]
fn a_lost_or_damaged_outline_is_made_anew_and_never_believed() {
    let (_folder, store) = store();
    let bytes = bytes(2 * MIB + 77);
    let digest = store.put(&bytes).unwrap().digest;
    let outline = store.path(digest).with_added_extension(OUTLINE);
    let good = fs::read(&outline).unwrap();

    fs::remove_file(&outline).unwrap();
    store.blob(digest).unwrap().verify().unwrap();
    assert_eq!(fs::read(&outline).unwrap(), good);

    flip(&outline, 3);
    store.blob(digest).unwrap().verify().unwrap();
    assert_eq!(fs::read(&outline).unwrap(), good);

    fs::remove_file(&outline).unwrap();
    flip(&store.path(digest), 3);
    assert!(matches!(
        store.blob(digest),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn a_partial_blob_is_resumed_from_what_its_bytes_prove() {
    let (_folder, store) = store();
    let bytes = bytes(3 * MIB + 5);
    let outline = Outline::of(&bytes).unwrap();
    let chunk = |chunk: u64| {
        let range = outline.blob().range(chunk);
        (
            range.clone(),
            &bytes[range.start as usize..range.end as usize],
        )
    };
    {
        let mut partial = store.partial(outline.blob()).unwrap();
        for index in [0, 2] {
            let (range, bytes) = chunk(index);
            partial.write(range, bytes).unwrap();
        }
        // A torn write, as a crash leaves it.
        let (range, bytes) = chunk(1);
        partial
            .write(range.start..range.start + 9, &bytes[..9])
            .unwrap();
    }
    assert!(!store.contains(outline.blob().digest));
    let mut partial = store.partial(outline.blob()).unwrap();
    assert_eq!(partial.verified(&outline).collect::<Vec<_>>(), [0, 2]);
    for index in [1, 3] {
        let (range, bytes) = chunk(index);
        partial.write(range, bytes).unwrap();
    }
    partial.finish(&outline).unwrap();
    store.blob(outline.blob().digest).unwrap().verify().unwrap();
}

#[test]
fn collection_keeps_what_is_referred_to_and_nothing_else() {
    let (folder, store) = store();
    let kept = store.put(&bytes(MIB + 1)).unwrap();
    let dropped = store.put(&bytes(1000)).unwrap();
    let on_its_way = BlobRef::of(b"on its way");
    store
        .partial(on_its_way)
        .unwrap()
        .write(0..3, b"on ")
        .unwrap();
    let given_up = BlobRef::of(b"given up");
    store
        .partial(given_up)
        .unwrap()
        .write(0..3, b"giv")
        .unwrap();
    std::mem::forget(store.writer().unwrap());

    let keep = BTreeSet::from([kept.digest, on_its_way.digest]);
    let collected = store.collect(&keep).unwrap();
    let outline = Digest::LEN as u64;
    assert_eq!(
        collected,
        Collected {
            blobs: 3,
            bytes: 1000 + outline + 3
        }
    );
    assert_eq!(store.digests().unwrap(), BTreeSet::from([kept.digest]));
    assert!(!store.contains(dropped.digest));
    let partial: Vec<_> = read_dir(&folder.path().join(PARTIAL)).unwrap();
    assert_eq!(
        partial,
        [folder
            .path()
            .join(PARTIAL)
            .join(on_its_way.digest.to_string())]
    );
    store.blob(kept.digest).unwrap().verify().unwrap();
}

#[test]
fn an_abandoned_writer_leaves_nothing() {
    let (folder, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    assert!(read_dir(&folder.path().join(PARTIAL)).unwrap().is_empty());
}

#[test]
fn a_reader_gives_what_was_put_wherever_it_seeks_and_nothing_of_a_damaged_chunk() {
    let (_folder, store) = store();
    let bytes = bytes(2 * MIB + 77);
    let blob = store.put(&bytes).unwrap();
    let mut reader = store.blob(blob.digest).unwrap().reader();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(reader.seek(SeekFrom::End(-77)).unwrap(), 2 * MIB as u64);
    read.clear();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes[2 * MIB..]);
    assert!(reader.seek(SeekFrom::End(-3 * MIB as i64)).is_err());

    flip(&store.path(blob.digest), MIB as u64 + 5);
    let mut reader = store.blob(blob.digest).unwrap().reader();
    let mut first = vec![0; MIB];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(first, bytes[..MIB]);
    let error = reader.read(&mut first).unwrap_err();
    let error: &StoreError = error.get_ref().unwrap().downcast_ref().unwrap();
    assert!(error.is_lost());
    assert_eq!(
        error.to_string(),
        format!("blob {}: damaged on disk in chunk 1", blob.digest)
    );
}

#[test]
fn a_discarded_blob_is_missing_and_can_be_put_again() {
    let (_folder, store) = store();
    let blob = store.put(b"model").unwrap();
    for _ in 0..2 {
        store.discard(blob.digest).unwrap();
        let error = store.blob(blob.digest).unwrap_err();
        assert!(matches!(error, StoreError::Missing(_)));
    }
    assert_eq!(store.put(b"model").unwrap(), blob);
    store.blob(blob.digest).unwrap().verify().unwrap();
}
