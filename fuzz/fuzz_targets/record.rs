//! The TCP path: records cut anywhere, and the chunks in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::record::{ChunkReader, Record, RecordReader};

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (early, late) = bytes.split_at(bytes.len().min(cut.into()));
    assert_eq!(read(&[bytes]), read(&[early, late]), "cut at {cut}");
});

/// Every record as it would be written, and every chunk, up to the first that is none.
fn read(pushes: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut records, mut chunks) = (RecordReader::default(), ChunkReader::default());
    let (mut written, mut whole) = (Vec::new(), Vec::new());
    for push in pushes {
        records.push(push);
        while let Ok(Some(record)) = records.poll() {
            record.encode(&mut written);
            let Record::Bulk(mut bulk) = record else {
                continue;
            };
            while !bulk.is_empty() {
                match chunks.push(&mut bulk) {
                    Ok(Some((header, bytes))) => {
                        assert_eq!(header.len as usize, bytes.len());
                        whole.push(bytes);
                    }
                    Ok(None) => {}
                    Err(_) => return (written, whole),
                }
            }
        }
    }
    (written, whole)
}
