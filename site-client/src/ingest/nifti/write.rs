use std::fs::{self, File};
use std::io;
use std::path::Path;

use core_model::ct::{Affine, Volume};
use ndarray::{ArrayView3, ShapeBuilder};
use nifti::NiftiHeader;
use nifti::writer::WriterOptions;

use crate::ingest::IngestError;

/// Voxels to write, axis 0 contiguous.
#[derive(Debug, Clone, PartialEq)]
pub enum Voxels {
    /// HU that are not whole.
    F32(Vec<f32>),
    /// Whole HU.
    I16(Vec<i16>),
}

impl Voxels {
    /// int16 where that is exact, else float32.
    #[must_use]
    pub fn exact(hu: Vec<f32>) -> Self {
        if hu.iter().all(|&hu| f32::from(hu as i16) == hu) {
            Self::I16(hu.into_iter().map(|hu| hu as i16).collect())
        } else {
            Self::F32(hu)
        }
    }
}

/// Writes a volume; int16 where that is exact, else float32.
///
/// # Errors
/// As [`write()`].
pub fn write_volume(path: &Path, volume: &Volume) -> Result<(), IngestError> {
    let [nx, ny, nz] = volume.shape();
    let mut hu = vec![0.0; nx * ny * nz];
    for (row, line) in volume.voxels_hu().chunks_exact(nz).enumerate() {
        let (x, y) = (row / ny, row % ny);
        for (z, &value) in line.iter().enumerate() {
            hu[x + nx * (y + ny * z)] = value;
        }
    }
    write(path, volume.shape(), &Voxels::exact(hu), volume.affine())
}

/// Writes a `.nii` or `.nii.gz` with sform and qform; the file appears when it is complete.
///
/// A sheared affine is exact in the sform; the qform holds the nearest rotation.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    path: &Path,
    shape: [usize; 3],
    voxels: &Voxels,
    affine: &Affine,
) -> Result<(), IngestError> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!("partial-{file_name}"));
    let written = write_to(&partial, shape, voxels, affine).and_then(|()| {
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, path)
    });
    written.map_err(|error| {
        // The error that matters is the first one; the remains may not even exist.
        drop(fs::remove_file(&partial));
        IngestError::io("write", path)(error)
    })
}

fn write_to(path: &Path, shape: [usize; 3], voxels: &Voxels, affine: &Affine) -> io::Result<()> {
    let header = header(affine);
    let writer = WriterOptions::new(path).reference_header(&header);
    let written = match voxels {
        Voxels::I16(hu) => writer.write_nifti(&view(shape, hu)?),
        Voxels::F32(hu) => writer.write_nifti(&view(shape, hu)?),
    };
    written.map_err(|error| match error {
        nifti::NiftiError::Io(error) => error,
        other => io::Error::other(other),
    })
}

fn view<T>(shape: [usize; 3], voxels: &[T]) -> io::Result<ArrayView3<'_, T>> {
    ArrayView3::from_shape(shape.f(), voxels).map_err(io::Error::other)
}

fn header(affine: &Affine) -> NiftiHeader {
    let right_handed = affine.is_right_handed();
    let mut rotation = affine.nearest_rotation();
    if !right_handed {
        for row in &mut rotation {
            row[2] = -row[2];
        }
    }
    let [b, c, d] = quaternion(rotation).map(|x| x as f32);
    let [dx, dy, dz] = affine.spacing().map(|mm| mm as f32);
    let [x, y, z] = affine.origin().map(|mm| mm as f32);
    let [srow_x, srow_y, srow_z] = affine.rows().map(|row| row.map(|mm| mm as f32));
    NiftiHeader {
        pixdim: [
            if right_handed { 1.0 } else { -1.0 },
            dx,
            dy,
            dz,
            1.0,
            1.0,
            1.0,
            1.0,
        ],
        xyzt_units: MILLIMETERS,
        qform_code: SCANNER,
        sform_code: SCANNER,
        quatern_b: b,
        quatern_c: c,
        quatern_d: d,
        quatern_x: x,
        quatern_y: y,
        quatern_z: z,
        srow_x,
        srow_y,
        srow_z,
        ..NiftiHeader::default()
    }
}

/// The imaginary part of a rotation's unit quaternion with a real part of at least 0.
fn quaternion(m: [[f64; 3]; 3]) -> [f64; 3] {
    // The largest component is computed from the diagonal, the others by division (Shepperd 1978).
    let trace = m[0][0] + m[1][1] + m[2][2];
    let squares = [
        1.0 + trace,
        1.0 + 2.0 * m[0][0] - trace,
        1.0 + 2.0 * m[1][1] - trace,
        1.0 + 2.0 * m[2][2] - trace,
    ];
    let (largest, square) = squares
        .into_iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, 1.0 + trace));
    let four = 2.0 * square.sqrt();
    let [a, b, c, d] = match largest {
        0 => {
            let [b, c, d] = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]];
            [four / 4.0, b / four, c / four, d / four]
        }
        1 => {
            let [a, c, d] = [m[2][1] - m[1][2], m[0][1] + m[1][0], m[0][2] + m[2][0]];
            [a / four, four / 4.0, c / four, d / four]
        }
        2 => {
            let [a, b, d] = [m[0][2] - m[2][0], m[0][1] + m[1][0], m[1][2] + m[2][1]];
            [a / four, b / four, four / 4.0, d / four]
        }
        _ => {
            let [a, b, c] = [m[1][0] - m[0][1], m[0][2] + m[2][0], m[1][2] + m[2][1]];
            [a / four, b / four, c / four, four / 4.0]
        }
    };
    if a < 0.0 { [-b, -c, -d] } else { [b, c, d] }
}

/// NIFTI_UNITS_MM.
const MILLIMETERS: u8 = 2;

/// NIFTI_XFORM_SCANNER_ANAT.
const SCANNER: i16 = 1;
