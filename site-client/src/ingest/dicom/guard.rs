//! Limits on what a file may make the parser do: inflate without end, recurse without end, or fill
//! memory.
//!
//! The parser reserves the length that each element claims, up to 4 GiB, and recurses into each
//! sequence. So a data set is walked first, element by element and keeping none: what passes has
//! every byte that it claims, and few enough of everything.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use dicom_core::Tag;
use dicom_object::FileMetaTable;
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_parser::{DynStatefulDecoder, StatefulDecode};
use dicom_transfer_syntax_registry::entries;
use flate2::read::DeflateDecoder;

/// A limit that a file oversteps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Limit {
    #[error("deflated data set: grows more than {MOST_GROWTH}-fold, expected less")]
    Growth,
    #[error("{tag}: {claimed} bytes promised, {found} found")]
    Short { tag: Tag, claimed: u32, found: u64 },
    #[error("data set: values of more than {0} bytes, expected less")]
    Bytes(u64),
    #[error("data set: more than {MOST_ELEMENTS} elements, expected less")]
    Elements,
    #[error("sequences: nested more than {MOST_NESTED} deep, expected less")]
    Nested,
    #[error("{0}")]
    Syntax(String),
}

/// Walks a file up to a tag or its end.
///
/// A file whose meta group cannot be read passes: the parser refuses it without reading on.
pub(super) fn check(file: impl Read, until: Option<Tag>, max_bytes: u64) -> Result<(), Limit> {
    let mut file = BufReader::new(file);
    let mut preamble = [0; 128];
    if file.read_exact(&mut preamble).is_err() {
        return Ok(());
    }
    let Ok(meta) = FileMetaTable::from_reader(&mut file) else {
        return Ok(());
    };
    let syntax = match meta.transfer_syntax() {
        "1.2.840.10008.1.2" => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        "1.2.840.10008.1.2.2" => entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
        // All others code elements alike (PS3.5 A.4).
        _ => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
    };
    let read = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: file,
        read: Rc::clone(&read),
    };
    let decoder =
        DynStatefulDecoder::new_with_ts(counted, &syntax, 0).map_err(|e| syntax_error(&e))?;
    let mut tokens = LazyDataSetReader::new(decoder);
    let mut walk = Walk {
        bytes_left: max_bytes,
        max_bytes,
        elements: 0,
        nested: 0,
    };
    while let Some(token) = tokens.advance() {
        match token.map_err(|e| syntax_error(&e))? {
            LazyDataToken::ElementHeader(header) if walk.reaches(until, header.tag) => break,
            LazyDataToken::SequenceStart { tag, .. } if walk.reaches(until, tag) => break,
            LazyDataToken::PixelSequenceStart if walk.reaches(until, PIXEL_DATA) => break,
            LazyDataToken::ElementHeader(_) | LazyDataToken::ItemStart { .. } => walk.element()?,
            LazyDataToken::SequenceStart { .. } | LazyDataToken::PixelSequenceStart => {
                walk.enter()?
            }
            // One that closes nothing is passed over.
            LazyDataToken::SequenceEnd => walk.nested = walk.nested.saturating_sub(1),
            LazyDataToken::LazyValue { header, decoder } => {
                walk.value(header.tag, header.len.0, decoder, &read)?;
            }
            LazyDataToken::LazyItemValue { len, decoder } => {
                walk.value(PIXEL_DATA, len, decoder, &read)?;
            }
            // The end of an item.
            _ => {}
        }
    }
    Ok(())
}

struct Walk {
    bytes_left: u64,
    max_bytes: u64,
    elements: usize,
    nested: usize,
}

impl Walk {
    /// Whether the parser stops here.
    fn reaches(&self, until: Option<Tag>, tag: Tag) -> bool {
        self.nested == 0 && until.is_some_and(|until| until <= tag)
    }

    fn element(&mut self) -> Result<(), Limit> {
        self.elements += 1;
        if self.elements > MOST_ELEMENTS {
            return Err(Limit::Elements);
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Limit> {
        self.nested += 1;
        if self.nested > MOST_NESTED {
            return Err(Limit::Nested);
        }
        self.element()
    }

    /// Passes over a value.
    fn value(
        &mut self,
        tag: Tag,
        claimed: u32,
        decoder: &mut impl StatefulDecode,
        read: &Cell<u64>,
    ) -> Result<(), Limit> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(claimed.into())
            .ok_or(Limit::Bytes(self.max_bytes))?;
        let before = read.get();
        decoder.skip_bytes(claimed).map_err(|e| syntax_error(&e))?;
        let found = read.get() - before;
        if found < claimed.into() {
            return Err(Limit::Short {
                tag,
                claimed,
                found,
            });
        }
        Ok(())
    }
}

/// What the walk says of an element it cannot read, or of the limit behind it.
fn syntax_error(error: &(dyn Error + 'static)) -> Limit {
    let behind = std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
        let error = error.downcast_ref::<io::Error>()?;
        error.get_ref()?.downcast_ref::<Limit>().cloned()
    });
    behind.unwrap_or_else(|| Limit::Syntax(super::open::first_line(error)))
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(to)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
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

/// Real pictures shrink to a half or a third; an empty one of a few MiB shrinks a thousandfold.
const MOST_GROWTH: u64 = 100;
const ALLOWANCE: u64 = 16 << 20;

/// Elements and items; a multi-frame object has some fifty for each of 2,000 frames. In memory each
/// takes a few hundred bytes.
const MOST_ELEMENTS: usize = 1 << 18;

/// Sequences in one another: CT objects need three, and a thread's stack bears a few hundred.
const MOST_NESTED: usize = 32;

const PIXEL_DATA: Tag = super::tags::PIXEL_DATA;
