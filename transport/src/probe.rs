//! How fast a link is: bulk bytes of no meaning, each way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use protocol::message::Probe;
use protocol::transfer::{BlobRef, CHUNK_LEN, ChunkHeader};

use crate::error::{LinkError, TransferError};
use crate::link::{Link, Way};
use crate::pipe::Pipe;

/// What a link moved, and how long it took; the way there and back of the request is in it.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Bytes each way.
    pub bytes: u64,
    /// Until the coordinator had them.
    pub up: Duration,
    /// Until they had come from the coordinator.
    pub down: Duration,
}

/// Moves `bytes`, at most [`Probe::MAX_LEN`], to the coordinator and then from it.
///
/// # Errors
/// If the link ends, or somebody is measuring it already.
pub async fn measure(link: &Link, bytes: u64) -> Result<Throughput, TransferError> {
    let bytes = bytes.min(Probe::MAX_LEN);
    let mut arriving = link.route(Way::In, Probe::BLOB)?;
    let start = Instant::now();
    send(link.pipe(), bytes).await?;
    let up = start.elapsed();

    let start = Instant::now();
    link.send(Probe { bytes }).await?;
    let mut missing = bytes;
    while missing > 0 {
        let chunk = tokio::select! {
            Some(chunk) = arriving.chunks.recv() => chunk,
            error = link.ended() => return Err(error.into()),
        };
        missing = missing.saturating_sub(chunk.header.len.into());
    }
    let down = start.elapsed();
    Ok(Throughput { bytes, up, down })
}

/// Answers a site's probe, unless one is being answered.
pub(crate) fn answer(asked: Probe, pipe: &Arc<Pipe>, is_probed: &Arc<AtomicBool>) {
    if is_probed.swap(true, Ordering::Relaxed) {
        return;
    }
    let (pipe, is_probed) = (Arc::clone(pipe), Arc::clone(is_probed));
    tokio::spawn(async move {
        // A link that ended needs no answer.
        let _ = send(&pipe, asked.bytes.min(Probe::MAX_LEN)).await;
        is_probed.store(false, Ordering::Relaxed);
    });
}

/// Sends bytes of no meaning, and waits until they have arrived.
async fn send(pipe: &Pipe, bytes: u64) -> Result<(), LinkError> {
    let zeros = Bytes::from(vec![0; CHUNK_LEN as usize]);
    // Cut as a blob is; of its digest nothing else is known.
    let blob = BlobRef {
        digest: Probe::BLOB,
        len: bytes,
    };
    try_join_all((0..blob.chunks()).map(|chunk| {
        let range = blob.range(chunk);
        let bytes = zeros.slice(..(range.end - range.start) as usize);
        let header = ChunkHeader {
            blob: blob.digest,
            chunk,
            len: bytes.len() as u32,
        };
        pipe.deliver_chunk(header, bytes)
    }))
    .await?;
    pipe.settle().await
}
