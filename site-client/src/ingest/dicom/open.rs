use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use dicom_object::file::ReadPreamble;
use dicom_object::{DefaultDicomObject, OpenFileOptions, ReadError};

use super::guard::check;
use super::meta::mended;
use super::pixels::transfer_syntax_name;
use super::{Reason, tags};

/// Where a file's bytes are.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

impl<'a> Origin<'a> {
    /// The stream, mended, from the preamble on.
    fn reader(self) -> Result<Box<dyn Read + 'a>, Reason> {
        let bytes: Box<dyn Read + 'a> = match self {
            Self::Bytes(bytes) => Box::new(bytes),
            Self::File(path) => Box::new(BufReader::new(File::open(path).map_err(unreadable)?)),
        };
        mended(bytes).map_err(unreadable)?.ok_or(Reason::NotDicom)
    }
}

/// How much of a file is read.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// What stands before the pixels.
    Description,
    /// Everything, with pixels of as many voxels at most.
    Whole { max_voxels: usize },
}

/// Parses a file within the limits of [`guard`](super::guard): it is walked once, then read.
pub(super) fn open(origin: Origin<'_>, part: Part) -> Result<DefaultDicomObject, Reason> {
    let (until, max_bytes) = match part {
        Part::Description => (Some(tags::PIXEL_DATA), MAX_DESCRIPTION),
        Part::Whole { max_voxels } => (None, MAX_DESCRIPTION + 2 * max_voxels as u64),
    };
    check(origin.reader()?, until, max_bytes).map_err(unreadable)?;
    let options = OpenFileOptions::new().read_preamble(ReadPreamble::Always);
    let options = match until {
        Some(tag) => options.read_until(tag),
        None => options.read_all(),
    };
    options
        .from_reader(origin.reader()?)
        .map_err(|error| match error {
            ReadError::ReadUnrecognizedTransferSyntax { uid, .. } => Reason::TransferSyntax {
                name: transfer_syntax_name(&uid),
                uid,
            },
            error => unreadable(first_line(&error)),
        })
}

fn unreadable(problem: impl ToString) -> Reason {
    Reason::Unreadable {
        problem: problem.to_string(),
    }
}

/// An error's own words, without its sources: those may quote the data.
pub(super) fn first_line(error: &dyn std::error::Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Bytes of all values beside the pixels; private ones of vendors take a few MiB.
const MAX_DESCRIPTION: u64 = 64 << 20;
