use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use core_model::ct::{Affine, Orientation, Volume};
use flate2::bufread::MultiGzDecoder;
use rayon::prelude::*;

use super::{Datatype, Header, NiftiError};
use crate::ingest::IngestError;

/// A NIfTI scan as stored.
#[derive(Debug)]
pub struct Nifti {
    /// The checked header.
    pub header: Header,
    voxels: Stored,
}

/// Reads a scan: `.nii`, `.nii.gz`, or either half of an `.hdr`/`.img` pair; compression is told by
/// content.
///
/// # Errors
/// A file that cannot be read or breaks a rule of the format.
pub fn read(path: &Path, max_voxels: usize) -> Result<Nifti, IngestError> {
    let header = header_path(path);
    let bytes = fs::read(&header).map_err(IngestError::io("read", &header))?;
    let image = image_path(&header).filter(|image| image.is_file());
    let image = match image {
        Some(image) => Some(fs::read(&image).map_err(IngestError::io("read", image))?),
        None => None,
    };
    read_bytes(&bytes, image.as_deref(), max_voxels)
        .map_err(|source| IngestError::nifti(path, source))
}

/// Reads a scan from the bytes of its file, or of its header file and image file.
///
/// Memory stays below the compressed input and `max_voxels` voxels of the stored type.
///
/// # Errors
/// The first rule of the format that they break.
pub fn read_bytes(
    bytes: &[u8],
    image: Option<&[u8]>,
    max_voxels: usize,
) -> Result<Nifti, NiftiError> {
    let mut stream = Stream::new(bytes);
    let mut start = Vec::with_capacity(Header::MAX_BYTES);
    stream.read_up_to(Header::MAX_BYTES, &mut start)?;
    let header = Header::parse(&start, max_voxels)?;
    if header.separate_image {
        let mut stream = Stream::new(image.ok_or(NiftiError::NoImage)?);
        stream.skip(header.offset)?;
        let voxels = Stored::read(&mut stream, &header, &[])?;
        return Ok(Nifti { header, voxels });
    }
    // Part of the voxels may have come with the header's bytes.
    let within = usize::try_from(header.offset)
        .unwrap_or(usize::MAX)
        .min(start.len());
    let early = &start[within..];
    stream.skip(header.offset.saturating_sub(start.len() as u64))?;
    let voxels = Stored::read(&mut stream, &header, early)?;
    Ok(Nifti { header, voxels })
}

impl Nifti {
    /// The scan in HU, axes to the right, anterior and superior.
    ///
    /// # Errors
    /// [`NiftiError::NotFinite`] if a voxel is NaN or infinite, also after scaling.
    pub fn to_ras(&self) -> Result<Volume, NiftiError> {
        self.to_volume(Orientation::of(&self.header.affine))
    }

    /// The scan in HU, axes as stored.
    ///
    /// # Errors
    /// [`NiftiError::NotFinite`] if a voxel is NaN or infinite, also after scaling.
    pub fn as_stored(&self) -> Result<Volume, NiftiError> {
        self.to_volume(Orientation {
            from_axis: [0, 1, 2],
            flipped: [false; 3],
        })
    }

    /// HU in the stored order, axis 0 contiguous.
    ///
    /// # Errors
    /// [`NiftiError::NotFinite`] if a voxel is NaN or infinite, also after scaling.
    pub fn stored_hu(&self) -> Result<Vec<f32>, NiftiError> {
        // Reversing the axes of a row-major copy makes axis 0 contiguous.
        let reversed = Orientation {
            from_axis: [2, 1, 0],
            flipped: [false; 3],
        };
        Ok(self.to_volume(reversed)?.into_voxels_hu())
    }

    fn to_volume(&self, orientation: Orientation) -> Result<Volume, NiftiError> {
        let (shape, affine, voxels) = match &self.voxels {
            Stored::F32(v) => self.gather(v, orientation, f64::from),
            Stored::F64(v) => self.gather(v, orientation, |x| x),
            Stored::I8(v) => self.gather(v, orientation, f64::from),
            Stored::I16(v) => self.gather(v, orientation, f64::from),
            Stored::I32(v) => self.gather(v, orientation, f64::from),
            Stored::I64(v) => self.gather(v, orientation, |x| x as f64),
            Stored::U8(v) => self.gather(v, orientation, f64::from),
            Stored::U16(v) => self.gather(v, orientation, f64::from),
            Stored::U32(v) => self.gather(v, orientation, f64::from),
            Stored::U64(v) => self.gather(v, orientation, |x| x as f64),
        };
        let Header {
            slope, intercept, ..
        } = self.header;
        let scaled = (slope, intercept) != (1.0, 0.0);
        if scaled || matches!(self.voxels, Stored::F32(_) | Stored::F64(_)) {
            let count = voxels.par_iter().filter(|hu| !hu.is_finite()).count();
            if count > 0 {
                return Err(NiftiError::NotFinite { count });
            }
        }
        Volume::new(shape, affine, voxels).map_err(NiftiError::Volume)
    }

    fn gather<T: Copy + Sync>(
        &self,
        stored: &[T],
        orientation: Orientation,
        to_f64: impl Fn(T) -> f64 + Sync,
    ) -> ([usize; 3], Affine, Vec<f32>) {
        let Header {
            shape,
            slope,
            intercept,
            affine,
            ..
        } = self.header.clone();
        let strides = [1, shape[0], shape[0] * shape[1]];
        if (slope, intercept) == (1.0, 0.0) {
            orientation.gather(stored, shape, strides, &affine, |x| to_f64(x) as f32)
        } else {
            let scale = |x| (slope * to_f64(x) + intercept) as f32;
            orientation.gather(stored, shape, strides, &affine, scale)
        }
    }
}

/// Voxels in native byte order, axis 0 contiguous.
enum Stored {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

impl Stored {
    fn read(stream: &mut Stream<'_>, header: &Header, early: &[u8]) -> Result<Self, NiftiError> {
        Ok(match header.datatype {
            Datatype::F32 => Self::F32(read_array(stream, header, early)?),
            Datatype::F64 => Self::F64(read_array(stream, header, early)?),
            Datatype::I8 => Self::I8(read_array(stream, header, early)?),
            Datatype::I16 => Self::I16(read_array(stream, header, early)?),
            Datatype::I32 => Self::I32(read_array(stream, header, early)?),
            Datatype::I64 => Self::I64(read_array(stream, header, early)?),
            Datatype::U8 => Self::U8(read_array(stream, header, early)?),
            Datatype::U16 => Self::U16(read_array(stream, header, early)?),
            Datatype::U32 => Self::U32(read_array(stream, header, early)?),
            Datatype::U64 => Self::U64(read_array(stream, header, early)?),
        })
    }
}

/// Shows the type only: logs must not hold scans.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stored(..)")
    }
}

fn read_array<T: Pod>(
    stream: &mut Stream<'_>,
    header: &Header,
    early: &[u8],
) -> Result<Vec<T>, NiftiError> {
    let expected = (header.voxels() * size_of::<T>()) as u64;
    let truncated = NiftiError::Truncated {
        part: "voxels",
        expected,
    };
    if stream.at_most().saturating_add(early.len() as u64) < expected {
        return Err(truncated);
    }
    let mut voxels = vec![T::zeroed(); header.voxels()];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut voxels);
    let early = &early[..early.len().min(bytes.len())];
    bytes[..early.len()].copy_from_slice(early);
    stream.fill(&mut bytes[early.len()..], truncated)?;
    if header.big_endian != cfg!(target_endian = "big") && size_of::<T>() > 1 {
        bytes
            .chunks_exact_mut(size_of::<T>())
            .for_each(<[u8]>::reverse);
    }
    Ok(voxels)
}

/// Bytes of a file, decompressed on the way if they begin as gzip does.
enum Stream<'a> {
    Plain(&'a [u8]),
    Gzip {
        decoder: Box<MultiGzDecoder<&'a [u8]>>,
        compressed: u64,
    },
}

impl<'a> Stream<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        if bytes.starts_with(&GZIP_MAGIC) {
            let decoder = Box::new(MultiGzDecoder::new(bytes));
            Self::Gzip {
                decoder,
                compressed: bytes.len() as u64,
            }
        } else {
            Self::Plain(bytes)
        }
    }

    /// No more bytes than this can follow.
    fn at_most(&self) -> u64 {
        match self {
            Self::Plain(bytes) => bytes.len() as u64,
            Self::Gzip { compressed, .. } => compressed.saturating_mul(MAX_INFLATION),
        }
    }

    fn read_up_to(&mut self, limit: usize, to: &mut Vec<u8>) -> Result<(), NiftiError> {
        self.reader()
            .take(limit as u64)
            .read_to_end(to)
            .map_err(NiftiError::Inflate)?;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), NiftiError> {
        let skipped = io::copy(&mut self.reader().take(bytes), &mut io::sink());
        if skipped.map_err(NiftiError::Inflate)? < bytes {
            return Err(NiftiError::Truncated {
                part: "padding before the voxels",
                expected: bytes,
            });
        }
        Ok(())
    }

    fn fill(&mut self, to: &mut [u8], truncated: NiftiError) -> Result<(), NiftiError> {
        self.reader()
            .read_exact(to)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => truncated,
                _ => NiftiError::Inflate(error),
            })
    }

    fn reader(&mut self) -> &mut dyn Read {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Gzip { decoder, .. } => decoder,
        }
    }
}

/// The header of a pair, for either half.
fn header_path(path: &Path) -> PathBuf {
    sibling(path, ".img", ".hdr")
        .filter(|header| header.is_file())
        .unwrap_or_else(|| path.into())
}

fn image_path(header: &Path) -> Option<PathBuf> {
    sibling(header, ".hdr", ".img")
}

/// The path with one ending exchanged, before an optional `.gz`.
fn sibling(path: &Path, ending: &str, other: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (stem, gz) = name
        .strip_suffix(".gz")
        .map_or((name, ""), |stem| (stem, ".gz"));
    let stem = stem.strip_suffix(ending)?;
    Some(path.with_file_name(format!("{stem}{other}{gz}")))
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Deflate cannot make more of a byte than this.
const MAX_INFLATION: u64 = 1032;
