use std::io::{self, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::{Header, NiftiError};

/// The voxels of a scan in stored order, decompressed as they are asked for.
pub(super) struct Stream<'a> {
    bytes: Chain<Cursor<Vec<u8>>, Content<'a>>,
    voxel_bytes: usize,
    big_endian: bool,
    expected: u64,
}

impl<'a> Stream<'a> {
    /// Parses the header and goes to the first voxel. `image` is the other half of a pair.
    ///
    /// # Errors
    /// The first rule of the format that the bytes break, or fewer bytes than the voxels need.
    pub(super) fn open(
        bytes: &'a [u8],
        image: Option<&'a [u8]>,
        max_voxels: usize,
    ) -> Result<(Header, Self), NiftiError> {
        let mut content = Content::new(bytes);
        let mut start = Vec::with_capacity(Header::MAX_BYTES);
        (&mut content)
            .take(Header::MAX_BYTES as u64)
            .read_to_end(&mut start)
            .map_err(NiftiError::Inflate)?;
        let header = Header::parse(&start, max_voxels)?;
        if header.separate_image {
            content = Content::new(image.ok_or(NiftiError::NoImage)?);
            start.clear();
        }
        // Part of the voxels may have come with the header's bytes.
        let mut stream = Self {
            bytes: Cursor::new(start).chain(content),
            voxel_bytes: header.datatype.bytes(),
            big_endian: header.big_endian,
            expected: (header.voxels() * header.datatype.bytes()) as u64,
        };
        stream.skip(header.offset)?;
        if stream.at_most() < stream.expected {
            return Err(stream.truncated());
        }
        Ok((header, stream))
    }

    /// The next voxels, as many as `to` has room for, in native byte order.
    pub(super) fn fill(&mut self, to: &mut [u8]) -> Result<(), NiftiError> {
        self.bytes
            .read_exact(to)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.truncated(),
                _ => NiftiError::Inflate(error),
            })?;
        if self.big_endian != cfg!(target_endian = "big") && self.voxel_bytes > 1 {
            to.chunks_exact_mut(self.voxel_bytes)
                .for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), NiftiError> {
        let skipped = io::copy(&mut (&mut self.bytes).take(bytes), &mut io::sink());
        if skipped.map_err(NiftiError::Inflate)? < bytes {
            return Err(NiftiError::Truncated {
                part: "padding before the voxels",
                expected: bytes,
            });
        }
        Ok(())
    }

    /// No more bytes than this can follow.
    fn at_most(&self) -> u64 {
        let (start, content) = self.bytes.get_ref();
        let early = start.get_ref().len() as u64 - start.position();
        content.at_most().saturating_add(early)
    }

    fn truncated(&self) -> NiftiError {
        NiftiError::Truncated {
            part: "voxels",
            expected: self.expected,
        }
    }
}

/// Bytes of a file, decompressed on the way if they begin as gzip does.
enum Content<'a> {
    Plain(&'a [u8]),
    Gzip {
        decoder: Box<MultiGzDecoder<&'a [u8]>>,
        compressed: u64,
    },
}

impl<'a> Content<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        if bytes.starts_with(&GZIP_MAGIC) {
            Self::Gzip {
                decoder: Box::new(MultiGzDecoder::new(bytes)),
                compressed: bytes.len() as u64,
            }
        } else {
            Self::Plain(bytes)
        }
    }

    fn at_most(&self) -> u64 {
        match self {
            Self::Plain(bytes) => bytes.len() as u64,
            Self::Gzip { compressed, .. } => compressed.saturating_mul(MAX_INFLATION),
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bytes) => bytes.read(to),
            Self::Gzip { decoder, .. } => decoder.read(to),
        }
    }
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Deflate cannot make more of a byte than this.
const MAX_INFLATION: u64 = 1032;
