//! One visit to a scanner: pose, calibration, kernel, noise, slices.

use super::geometry::{Rotation, Vec3, Width, sheet, vec3};
use super::grid::Grid;
use super::population::{Machine, Site};
use super::random::{Purpose, Stream};

/// Scans thinner than this are sampled once per slice; thicker ones are averages of thinner cells.
const FINEST_CELL_MM: f32 = 1.5;
/// A slice profile's full width at half maximum in standard deviations.
const FWHM: f32 = 2.355;

/// How one scan of a patient was made.
#[derive(Clone, Debug)]
pub struct Acquisition {
    /// The scanner and its tags.
    pub machine: Machine,
    /// Slice thickness and distance, mm.
    pub thickness_mm: f32,
    /// Gantry tilt, degrees.
    pub tilt_deg: f32,
    /// Noise of a 1 mm voxel, HU.
    pub noise_hu: f32,
    pub(crate) field_of_view: f32,
    rotation: Rotation,
    translation: Vec3,
    kernel: f32,
    /// Thickness of the slice profile, for grids that are not made of slices.
    profile_mm: f32,
    offset_hu: f32,
    gain: f32,
    pub(crate) cupping_hu: f32,
    headrest: Option<Headrest>,
    noise: Stream,
}

#[derive(Clone, Copy, Debug)]
struct Headrest {
    radius: f32,
    thickness: f32,
    hu: f32,
}

impl Acquisition {
    pub(crate) fn draw(site: &Site, seed: u64, patient: u64, number: u32, head: Vec3) -> Self {
        let scanner = &site.profile().scanner;
        let mut stream = Stream::new(seed, patient, Purpose::Acquisition, number);
        let machine = stream.pick(scanner.machines.iter().map(|machine| machine.weight));
        let slices = stream.pick(scanner.slices.iter().map(|habit| habit.weight));
        let rotation = scanner.rotation_deg;
        let pitch = stream.normal(0.0, rotation);
        let roll = stream.normal(0.0, 0.6 * rotation);
        let yaw = stream.normal(0.0, rotation);
        let mut shift = || stream.normal(0.0, scanner.position_mm);
        let translation = vec3(shift(), shift(), shift());
        let tilted = stream.chance(scanner.tilted);
        let tilt = stream.within(scanner.tilt_deg);
        let headrest = stream.chance(scanner.headrest);
        let rest = Headrest {
            radius: head.y * stream.uniform(1.05, 1.12),
            thickness: stream.uniform(3.0, 8.0),
            hu: stream.uniform(-150.0, 250.0),
        };
        Self {
            machine: scanner.machines[machine].clone(),
            thickness_mm: scanner.slices[slices].thickness_mm,
            tilt_deg: if tilted { tilt } else { 0.0 },
            noise_hu: stream.within(scanner.noise_hu),
            field_of_view: stream
                .normal(scanner.field_of_view[0], scanner.field_of_view[1])
                .max(0.9),
            rotation: Rotation::from_degrees(pitch, roll, yaw),
            translation,
            kernel: stream.within(scanner.kernel),
            profile_mm: scanner.slices[slices].thickness_mm,
            offset_hu: stream.normal(scanner.offset_hu[0], scanner.offset_hu[1]),
            gain: stream.normal(scanner.gain[0], scanner.gain[1]),
            cupping_hu: stream.within(scanner.cupping_hu),
            headrest: headrest.then_some(rest),
            noise: Stream::new(seed, patient, Purpose::Noise, number),
        }
    }

    /// A scanner without error: no noise, blur, tilt or headrest, the head straight in its middle.
    /// What it shows is the anatomy itself.
    #[must_use]
    pub fn ideal() -> Self {
        let machine = Machine {
            manufacturer: "simulated".to_owned(),
            model: "ideal".to_owned(),
            kernel: "none".to_owned(),
            kvp: 120,
            weight: 1.0,
        };
        Self {
            machine,
            thickness_mm: 1.0,
            tilt_deg: 0.0,
            noise_hu: 0.0,
            field_of_view: 1.0,
            rotation: Rotation::from_degrees(0.0, 0.0, 0.0),
            translation: Vec3::default(),
            kernel: 0.0,
            profile_mm: 0.0,
            offset_hu: 0.0,
            gain: 1.0,
            cupping_hu: 0.0,
            headrest: None,
            noise: Stream::new(0, 0, Purpose::Noise, 0),
        }
    }

    /// From the scanner's millimeters to the head's.
    #[inline]
    pub(crate) fn head_point(&self, p: Vec3) -> Vec3 {
        self.rotation.apply(p) + self.translation
    }

    /// The linear part of [`head_point`](Self::head_point).
    pub(crate) fn head_step(&self, step: Vec3) -> Vec3 {
        self.rotation.apply(step)
    }

    /// HU of what surrounds the head, and its share of a cell of width `h`. `p` is in the scanner's
    /// millimeters.
    #[inline]
    pub(crate) fn headrest(&self, p: Vec3, h: Width) -> Option<(f32, f32)> {
        let rest = self.headrest?;
        if p.y > -35.0 {
            return None;
        }
        let distance = (vec3(p.x, p.y - 6.0, 0.0).length() - rest.radius).abs();
        let share = sheet(distance, rest.thickness, h);
        (share > 0.0).then_some((rest.hu, share))
    }

    /// Cells averaged into one slice of this thickness.
    pub(crate) fn cells_per_slice(thickness: f32) -> usize {
        ((thickness / FINEST_CELL_MM).ceil() as usize).clamp(1, 8)
    }

    /// Kernel, calibration and noise, in place.
    pub(crate) fn develop(&self, voxels_hu: &mut [f32], grid: &Grid) {
        let spacing = grid.spacing_mm();
        let shape = grid.shape();
        let mut line = Vec::new();
        for (axis, &step) in spacing.iter().enumerate() {
            // The slice profile acts along the last axis, unless the cells already averaged it.
            let sigma = if axis < 2 {
                self.kernel.max(0.0) / step
            } else if grid.is_sliced() {
                0.0
            } else {
                self.profile_mm / FWHM / step
            };
            if sigma > 0.15 {
                convolve(voxels_hu, shape, axis, blur(sigma), &mut line);
            } else if self.kernel < 0.0 && axis < 2 {
                convolve(voxels_hu, shape, axis, sharpen(-self.kernel), &mut line);
            }
        }
        // Neighbors in a scan share noise, so it falls slower with the voxel's size than for
        // independent samples: with the cube root of the volume.
        let voxel: f32 = spacing.iter().product();
        let sigma = self.noise_hu / voxel.cbrt();
        let mut noise = self.noise.clone();
        for hu in voxels_hu.iter_mut() {
            let ideal = (*hu * self.gain + self.offset_hu).max(-1000.0);
            *hu = ideal + sigma * noise.standard_normal();
        }
    }
}

/// A symmetric kernel of five taps: the middle and two to each side.
type Taps = [f32; 3];

fn blur(sigma: f32) -> Taps {
    let tap = |d: f32| (-0.5 * (d / sigma) * (d / sigma)).exp();
    let total = tap(0.0) + 2.0 * (tap(1.0) + tap(2.0));
    [tap(0.0) / total, tap(1.0) / total, tap(2.0) / total]
}

fn sharpen(strength: f32) -> Taps {
    let side = -0.12 * strength;
    [1.0 - 2.0 * side, side, 0.0]
}

/// Convolves every line along `axis`; the ends repeat.
fn convolve(voxels: &mut [f32], shape: [usize; 3], axis: usize, taps: Taps, line: &mut Vec<f32>) {
    let stride: usize = shape[axis + 1..].iter().product();
    // With its ends repeated, a block's neighbors along the axis are the block itself, moved.
    for block in voxels.chunks_exact_mut(stride * shape[axis]) {
        let length = block.len();
        let (first, last) = (&block[..stride], &block[length - stride..]);
        line.clear();
        for part in [first, first, &*block, last, last] {
            line.extend_from_slice(part);
        }
        let moved = |steps: usize| &line[steps * stride..][..length];
        let (b, a, m, n, o) = (moved(0), moved(1), moved(2), moved(3), moved(4));
        for (s, value) in block.iter_mut().enumerate() {
            *value = taps[0] * m[s] + taps[1] * (a[s] + n[s]) + taps[2] * (b[s] + o[s]);
        }
    }
}
