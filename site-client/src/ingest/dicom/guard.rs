//! Limits on what a file may make the parser do: inflate without end, or recurse without end.

use std::error::Error;
use std::io::{self, Read};

use flate2::read::DeflateDecoder;

/// A limit that a file oversteps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Limit {
    #[error("deflated data set: grows more than {MOST_GROWTH}-fold, expected less")]
    Growth,
    #[error("sequences: more than {0} items, expected less")]
    Items(usize),
}

impl Limit {
    /// The limit behind a parser's error.
    pub(super) fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
            let error = error.downcast_ref::<io::Error>()?;
            error.get_ref()?.downcast_ref::<Self>().copied()
        })
    }
}

/// A deflated data set, inflated until it has grown beyond all reason.
pub(super) struct Inflate<R>(DeflateDecoder<R>);

impl<R: Read> Inflate<R> {
    pub(super) fn new(deflated: R) -> Self {
        Self(DeflateDecoder::new(deflated))
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(to)?;
        if self.0.total_out() > ALLOWANCE + MOST_GROWTH * self.0.total_in() {
            return Err(io::Error::other(Limit::Growth));
        }
        Ok(read)
    }
}

/// Counts the tags that begin an item of a sequence, in either byte order.
///
/// The parser recurses into sequences, and no depth can exceed the number of items.
pub(super) struct Counted<R> {
    inner: R,
    last: u32,
    items: usize,
    limit: usize,
}

impl<R: Read> Counted<R> {
    pub(super) fn new(inner: R, limit: usize) -> Self {
        Self {
            inner,
            last: 0,
            items: 0,
            limit,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(to)?;
        for &byte in &to[..read] {
            self.last = self.last << 8 | u32::from(byte);
            self.items += usize::from(ITEM_TAGS.contains(&self.last));
        }
        if self.items > self.limit {
            return Err(io::Error::other(Limit::Items(self.limit)));
        }
        Ok(read)
    }
}

/// Real pictures shrink to a half or a third; an empty one of a few MiB shrinks a thousandfold.
const MOST_GROWTH: u64 = 100;
const ALLOWANCE: u64 = 16 << 20;

/// (FFFE,E000), little and big endian.
const ITEM_TAGS: [u32; 2] = [0xFE_FF_00_E0, 0xFF_FE_E0_00];
