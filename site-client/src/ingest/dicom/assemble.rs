use std::collections::BTreeMap;
use std::path::Path;

use core_model::ct::Affine;
use rayon::prelude::*;

use super::hu::{to_hu, unwrap_12_bit};
use super::{Reason, Slice, pixels};
use crate::ingest::nifti::Voxels;

/// A volume from the slices of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// Columns, rows, slices.
    pub shape: [usize; 3],
    /// HU, columns contiguous.
    pub voxels: Voxels,
    /// Voxel index to mm in RAS; sheared where the gantry was tilted.
    pub affine: Affine,
    /// What is unusual about it, and what was repaired.
    pub flags: Vec<Flag>,
}

/// What is unusual about a series, and what was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Slices at one place more than once; the first by number is kept.
    Duplicates,
    /// A missing slice, filled between its neighbors (`--allow-gaps`).
    Gap,
    /// The slices do not lie above each other: a tilted gantry.
    Tilt,
    /// Uneven steps, brought to the usual one by linear interpolation.
    Uneven,
    /// Wrapped 12-bit values, unwrapped.
    Wrapped,
}

impl Flag {
    /// As in `scans.csv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicates => "duplicates",
            Self::Gap => "gap",
            Self::Tilt => "tilt",
            Self::Uneven => "uneven",
            Self::Wrapped => "wrapped",
        }
    }
}

/// Sorts the slices of one series by place, decodes them and makes one volume.
///
/// # Errors
/// Why they do not make one.
pub fn assemble(
    slices: Vec<Slice>,
    min_slices: usize,
    max_voxels: usize,
    allow_gaps: bool,
) -> Result<Assembled, Reason> {
    let mut flags = Vec::new();
    let first = slices
        .first()
        .ok_or(Reason::TooFewSlices {
            found: 0,
            limit: min_slices,
        })?
        .clone();
    refuse_mixed(&first, &slices)?;
    let normal = cross(first.directions[0], first.directions[1]);
    let mut placed: Vec<(f64, Slice)> = slices
        .into_iter()
        .map(|slice| (dot(normal, slice.position), slice))
        .collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.number.cmp(&b.1.number)));
    let found = placed.len();
    placed.dedup_by(|later, earlier| later.0 - earlier.0 < SAME_PLACE_MM);
    if placed.len() < found {
        flags.push(Flag::Duplicates);
    }
    if placed.len() < min_slices.max(2) {
        return Err(Reason::TooFewSlices {
            found: placed.len(),
            limit: min_slices.max(2),
        });
    }
    let [rows, columns] = first.size;
    let voxels = rows as u128 * columns as u128 * placed.len() as u128;
    if voxels > max_voxels as u128 {
        return Err(Reason::TooLarge {
            found: voxels,
            limit: max_voxels,
        });
    }
    let (places, mut slices): (Vec<f64>, Vec<Slice>) = placed.into_iter().unzip();
    let stack = Stack::new(&places, &slices)?;
    if stack.is_tilted(normal) {
        flags.push(Flag::Tilt);
    }
    if let Some(gap) = stack.gap(&places, &slices) {
        if !allow_gaps {
            return Err(gap);
        }
        flags.push(Flag::Gap);
    }
    let mut planes = decode(&mut slices, max_voxels, &mut flags)?;
    let step = if stack.is_even(&places) {
        (places[places.len() - 1] - places[0]) / (places.len() - 1) as f64
    } else {
        flags.push(Flag::Uneven);
        planes = even_out(&places, &planes, stack.usual_step);
        stack.usual_step
    };
    flags.sort();
    flags.dedup();
    let shape = [columns, rows, planes.len()];
    Ok(Assembled {
        shape,
        voxels: Voxels::exact(planes.concat()),
        affine: affine(&slices[0], stack.direction.map(|x| x * step))?,
        flags,
    })
}

/// The line on which the slices lie.
struct Stack {
    /// Of the first voxel, per mm along the normal.
    direction: [f64; 3],
    /// Median distance between neighbors along the normal, mm.
    usual_step: f64,
}

impl Stack {
    fn new(places: &[f64], slices: &[Slice]) -> Result<Self, Reason> {
        let last = slices.len() - 1;
        let reach = places[last] - places[0];
        let (start, end) = (slices[0].position, slices[last].position);
        let direction = [0, 1, 2].map(|a| (end[a] - start[a]) / reach);
        for (slice, (place, found)) in places.iter().zip(slices).enumerate() {
            let off = [0, 1, 2]
                .map(|a| found.position[a] - start[a] - direction[a] * (place - places[0]));
            let off_mm = dot(off, off).sqrt();
            if off_mm > BESIDE_MM {
                return Err(Reason::Scattered { slice, off_mm });
            }
        }
        let mut steps: Vec<f64> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.sort_by(f64::total_cmp);
        Ok(Self {
            direction,
            usual_step: steps[steps.len() / 2],
        })
    }

    fn is_tilted(&self, normal: [f64; 3]) -> bool {
        let beside = [0, 1, 2].map(|a| self.direction[a] - normal[a]);
        dot(beside, beside).sqrt() > TILT
    }

    fn is_even(&self, places: &[f64]) -> bool {
        let tolerance = UNEVEN_SHARE * self.usual_step;
        places
            .windows(2)
            .all(|pair| (pair[1] - pair[0] - self.usual_step).abs() <= tolerance)
    }

    /// A step is a gap if it is about twice the usual one and its slices do not fill it.
    fn gap(&self, places: &[f64], slices: &[Slice]) -> Option<Reason> {
        places
            .windows(2)
            .zip(slices.windows(2))
            .find_map(|(pair, neighbors)| {
                let step = pair[1] - pair[0];
                let thickness = neighbors.iter().filter_map(|slice| slice.thickness_mm);
                let filled = thickness
                    .reduce(f64::max)
                    .is_some_and(|mm| step <= FILLED * mm);
                (step > GAP * self.usual_step && !filled).then_some(Reason::Gap {
                    found_mm: step,
                    usual_mm: self.usual_step,
                })
            })
    }
}

fn refuse_mixed(first: &Slice, slices: &[Slice]) -> Result<(), Reason> {
    for slice in slices {
        let differs = |a: &[f64], b: &[f64], tolerance: f64| {
            a.iter().zip(b).any(|(a, b)| (a - b).abs() > tolerance)
        };
        let attribute = if slice.size != first.size {
            "Rows, Columns"
        } else if differs(&slice.spacing, &first.spacing, SAME_SPACING_MM) {
            "PixelSpacing"
        } else if differs(
            slice.directions.as_flattened(),
            first.directions.as_flattened(),
            SAME_DIRECTION,
        ) {
            "ImageOrientationPatient"
        } else if slice.patient.id != first.patient.id {
            "PatientID"
        } else {
            continue;
        };
        return Err(Reason::Inconsistent { attribute });
    }
    Ok(())
}

/// Decodes file by file, so that a multi-frame object is opened once.
fn decode(
    slices: &mut [Slice],
    max_voxels: usize,
    flags: &mut Vec<Flag>,
) -> Result<Vec<Vec<f32>>, Reason> {
    let mut files: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (index, slice) in slices.iter().enumerate() {
        files.entry(&slice.path).or_default().push(index);
    }
    let files: Vec<(&Path, Vec<usize>)> = files.into_iter().collect();
    let decoded: Vec<(usize, Vec<f32>, bool)> = files
        .into_par_iter()
        .map(|(path, indices)| {
            let wanted: Vec<&Slice> = indices.iter().map(|&index| &slices[index]).collect();
            let stored = pixels::decode_file(path, &wanted, max_voxels)?;
            let planes = indices.into_iter().zip(stored).map(|(index, mut stored)| {
                let mut slice = slices[index].clone();
                let wrapped = unwrap_12_bit(&mut stored, &mut slice);
                (index, to_hu(stored, &slice), wrapped)
            });
            Ok(planes.collect::<Vec<_>>())
        })
        .collect::<Result<Vec<_>, Reason>>()?
        .concat();
    let mut planes = vec![Vec::new(); slices.len()];
    for (index, plane, wrapped) in decoded {
        if wrapped {
            flags.push(Flag::Wrapped);
        }
        planes[index] = plane;
    }
    Ok(planes)
}

/// Linear interpolation between neighbors at even steps from the first slice.
fn even_out(places: &[f64], planes: &[Vec<f32>], step: f64) -> Vec<Vec<f32>> {
    let reach = places[places.len() - 1] - places[0];
    let count = (reach / step + EVEN_ROUNDING).floor() as usize + 1;
    (0..count)
        .map(|k| {
            let place = places[0] + step * k as f64;
            let above = places
                .partition_point(|&p| p < place)
                .clamp(1, places.len() - 1);
            let (low, high) = (places[above - 1], places[above]);
            let t = ((place - low) / (high - low)).clamp(0.0, 1.0) as f32;
            let blend = |(a, b): (&f32, &f32)| a + t * (b - a);
            planes[above - 1]
                .iter()
                .zip(&planes[above])
                .map(blend)
                .collect()
        })
        .collect()
}

/// DICOM's LPS to RAS: x and y change sign.
fn affine(first: &Slice, step: [f64; 3]) -> Result<Affine, Reason> {
    let mut rows = [[0.0; 4]; 3];
    for (axis, row) in rows.iter_mut().enumerate() {
        let sign = if axis < 2 { -1.0 } else { 1.0 };
        *row = [
            sign * first.directions[0][axis] * first.spacing[0],
            sign * first.directions[1][axis] * first.spacing[1],
            sign * step[axis],
            sign * first.position[axis],
        ];
    }
    Affine::new(rows).map_err(|error| Reason::Invalid {
        attribute: "ImageOrientationPatient, PixelSpacing",
        found: error.to_string(),
        expected: "axes of a volume",
    })
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Positions closer than this are one place.
const SAME_PLACE_MM: f64 = 0.01;

/// How far a slice may lie beside the line of the others.
const BESIDE_MM: f64 = 0.2;

/// A stack leaning more than half a degree is tilted.
const TILT: f64 = 0.0087;

/// Steps within 2 % of the usual one are even.
const UNEVEN_SHARE: f64 = 0.02;

/// A step of this many usual ones lacks a slice …
const GAP: f64 = 1.9;

/// … unless it is at most this many times as long as its slices are thick.
const FILLED: f64 = 1.5;

/// The last even place may pass the last slice by a hundredth of a step.
const EVEN_ROUNDING: f64 = 0.01;

const SAME_SPACING_MM: f64 = 1e-4;
const SAME_DIRECTION: f64 = 1e-3;
