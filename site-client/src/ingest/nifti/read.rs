use std::fs;
use std::path::{Path, PathBuf};

use core_model::ct::{Orientation, Volume};
use rayon::prelude::*;

use super::stream::Stream;
use super::voxel::Voxel;
use super::{Datatype, Header, NiftiError};
use crate::ingest::IngestError;

/// A NIfTI scan as stored.
pub struct Nifti {
    /// The checked header.
    pub header: Header,
    /// Voxels in native byte order, axis 0 contiguous; words, so that every type is aligned.
    words: Vec<u64>,
}

/// Reads a scan: `.nii`, `.nii.gz`, or either half of an `.hdr`/`.img` pair; compression is told by
/// content.
///
/// # Errors
/// A file that cannot be read or breaks a rule of the format.
pub fn read(path: &Path, max_voxels: usize) -> Result<Nifti, IngestError> {
    let files = Files::read(path)?;
    read_bytes(&files.header, files.image.as_deref(), max_voxels)
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
    let (header, mut stream) = Stream::open(bytes, image, max_voxels)?;
    let bytes = header.voxels() * header.datatype.bytes();
    let mut words = vec![0; bytes.div_ceil(size_of::<u64>())];
    stream.fill(&mut bytemuck::cast_slice_mut(&mut words)[..bytes])?;
    Ok(Nifti { header, words })
}

/// Reads a scan in HU, axes to the right, anterior and superior: what [`read`] and
/// [`Nifti::to_ras`] do one after the other, done side by side and without the stored copy.
///
/// # Errors
/// As [`read`], and a voxel that is NaN or infinite.
pub fn read_ras(path: &Path, max_voxels: usize) -> Result<Volume, IngestError> {
    let files = Files::read(path)?;
    read_ras_bytes(&files.header, files.image.as_deref(), max_voxels)
        .map_err(|source| IngestError::nifti(path, source))
}

/// [`read_ras`] from the bytes of the scan's file, or of its header file and image file.
///
/// # Errors
/// As [`read_bytes`], and [`NiftiError::NotFinite`].
pub fn read_ras_bytes(
    bytes: &[u8],
    image: Option<&[u8]>,
    max_voxels: usize,
) -> Result<Volume, NiftiError> {
    let (header, mut stream) = Stream::open(bytes, image, max_voxels)?;
    let orientation = Orientation::of(&header.affine);
    let voxels = with_type!(header.datatype, T => {
        slabs::<T>(&mut stream, &header, orientation, SLAB_VOXELS)
    })?;
    volume(&header, orientation, voxels)
}

/// Puts a slab of slices in its place while the next is being decompressed.
fn slabs<T: Voxel>(
    stream: &mut Stream<'_>,
    header: &Header,
    orientation: Orientation,
    slab_voxels: usize,
) -> Result<Vec<f32>, NiftiError> {
    let shape = header.shape;
    let slice = shape[0] * shape[1];
    let slices = (slab_voxels / slice).clamp(1, shape[2]);
    let in_slab = |first: usize| slices.min(shape[2] - first) * slice;
    let [mut slab, mut next] = [0; 2].map(|_| vec![T::zeroed(); slices * slice]);
    let mut voxels = vec![0.0; header.voxels()];
    stream.fill(bytemuck::cast_slice_mut(&mut slab[..in_slab(0)]))?;
    for first in (0..shape[2]).step_by(slices) {
        let after = (first + slices).min(shape[2]);
        let (filled, ()) = rayon::join(
            || stream.fill(bytemuck::cast_slice_mut(&mut next[..in_slab(after)])),
            || {
                let slab = &slab[..in_slab(first)];
                orientation.place(slab, first, shape, &mut voxels, |x| header.hu(x));
            },
        );
        filled?;
        std::mem::swap(&mut slab, &mut next);
    }
    Ok(voxels)
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
        let header = &self.header;
        let mut voxels = vec![0.0; header.voxels()];
        with_type!(header.datatype, T => {
            let stored: &[T] = &bytemuck::cast_slice(&self.words)[..header.voxels()];
            orientation.place(stored, 0, header.shape, &mut voxels, |x| header.hu(x));
        });
        volume(header, orientation, voxels)
    }
}

/// Shows the header only: logs must not hold scans.
impl std::fmt::Debug for Nifti {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nifti")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl Header {
    fn hu(&self, stored: impl Voxel) -> f32 {
        // The two roundings of a product and a sum of 1 and 0 change nothing, so no case is made of it.
        (self.slope * stored.to_f64() + self.intercept) as f32
    }
}

/// Checked voxels of a scan in the given orientation.
fn volume(
    header: &Header,
    orientation: Orientation,
    voxels: Vec<f32>,
) -> Result<Volume, NiftiError> {
    let scaled = (header.slope, header.intercept) != (1.0, 0.0);
    if scaled || matches!(header.datatype, Datatype::F32 | Datatype::F64) {
        let count = voxels.par_iter().filter(|hu| !hu.is_finite()).count();
        if count > 0 {
            return Err(NiftiError::NotFinite { count });
        }
    }
    let shape = orientation.from_axis.map(|axis| header.shape[axis]);
    let affine = orientation.reorient(&header.affine, header.shape);
    Volume::new(shape, affine, voxels).map_err(NiftiError::Volume)
}

/// The bytes of a scan's file, or of both files of a pair.
struct Files {
    header: Vec<u8>,
    image: Option<Vec<u8>>,
}

impl Files {
    fn read(path: &Path) -> Result<Self, IngestError> {
        let read = |path: &Path| fs::read(path).map_err(IngestError::io("read", path));
        let header = header_path(path);
        let image = image_path(&header).filter(|image| image.is_file());
        Ok(Self {
            header: read(&header)?,
            image: image.as_deref().map(read).transpose()?,
        })
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

/// Voxels put in place together: enough slices that the cache lines of their lines are used whole.
const SLAB_VOXELS: usize = 1 << 22;

#[cfg(test)]
mod tests {
    use core_model::ct::Affine;

    use super::*;
    use crate::ingest::nifti::write_volume;

    #[test]
    fn a_scan_read_slab_by_slab_is_the_scan_read_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scan.nii.gz");
        let voxels: Vec<f32> = (0..7 * 5 * 3).map(|i| i as f32 * 3.0 - 100.0).collect();
        for axes in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            for signs in 0..8 {
                let mut rows = [[0.0; 4]; 3];
                for (row, axis) in axes.into_iter().enumerate() {
                    rows[row][axis] = if signs >> row & 1 == 0 { 1.5 } else { -1.5 };
                }
                let affine = Affine::new(rows).expect("invertible");
                let stored = Volume::new([7, 5, 3], affine, voxels.clone()).expect("a volume");
                write_volume(&path, &stored).expect("written");
                let bytes = fs::read(&path).expect("readable");
                let whole = read_bytes(&bytes, None, 105).and_then(|scan| scan.to_ras());
                let whole = whole.expect("a scan");
                for slab in [1, 70, 105, 1000] {
                    let (header, mut stream) = Stream::open(&bytes, None, 105).expect("a scan");
                    let orientation = Orientation::of(&header.affine);
                    let voxels = with_type!(header.datatype, T => {
                        slabs::<T>(&mut stream, &header, orientation, slab)
                    });
                    let voxels = voxels.expect("voxels");
                    let read = volume(&header, orientation, voxels).expect("finite");
                    assert_eq!(read, whole, "axes {axes:?}, signs {signs}, slabs of {slab}");
                }
            }
        }
    }
}
