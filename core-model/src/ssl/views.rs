//! Views of a scan for DINO (paper, "Pre-training"): random crops, resized to the model's size,
//! some of them augmented.
//!
//! Everything happens on host memory. Every draw comes from a stream of its own for each (seed,
//! epoch, scan, view), so a view is the same whatever runs beside it.

mod augment;

pub use augment::Augmentation;

use std::ops::Range;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::ct::resize_area;
use crate::error::ConfigError;

/// Windowed voxels of one scan, `[C, X, Y, Z]` row-major, in [0, 1].
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    voxels: &'a [f32],
    channels: usize,
    shape: [usize; 3],
}

impl<'a> Scan<'a> {
    /// # Panics
    /// When `voxels` does not fill the shape, or the shape is empty.
    pub fn new(voxels: &'a [f32], channels: usize, shape: [usize; 3]) -> Self {
        let len = channels * shape.iter().product::<usize>();
        assert!(len > 0, "scan [{channels}, {shape:?}] is empty");
        assert_eq!(voxels.len(), len, "voxels fill [{channels}, {shape:?}]");
        Self {
            voxels,
            channels,
            shape,
        }
    }
}

/// How crops are cut. Lengths are voxels of the scan.
///
/// A scan is first padded with 0 or cropped to a centered cube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewGeometry {
    /// Side of the cube that global views are cut from.
    pub cube: usize,
    /// Side of the cube, in the center of the other, that local views are cut from.
    pub local_cube: usize,
    /// Least and greatest side of a global crop; each axis is drawn by itself.
    pub global_crop: [usize; 2],
    /// Least and greatest side of a local crop.
    pub local_crop: [usize; 2],
    /// Number of global views; the teacher sees these.
    pub global_views: usize,
    /// Number of local views.
    pub local_views: usize,
    /// Side of every view.
    pub size: usize,
}

impl ViewGeometry {
    /// The paper: a 224 mm cube at 1 mm, two global crops of 112–224 mm, three local ones of
    /// 64–112 mm.
    pub fn paper(size: usize) -> Self {
        Self {
            cube: 224,
            local_cube: 224,
            global_crop: [112, 224],
            local_crop: [64, 112],
            global_views: 2,
            local_views: 3,
            size,
        }
    }

    /// The released code: as in the paper, but two local crops, from the central 192.
    pub fn repo(size: usize) -> Self {
        Self {
            local_cube: 192,
            local_views: 2,
            ..Self::paper(size)
        }
    }

    /// The paper's proportions on scans of a coarser grid of side `cube`.
    ///
    /// # Errors
    /// When `cube` is less than 7, so that a local crop has no length.
    pub fn proportional(cube: usize, local_views: usize, size: usize) -> Result<Self, ConfigError> {
        ConfigError::unless(cube >= 7, "cube", "must be at least 7 voxels", cube)?;
        Ok(Self {
            cube,
            local_cube: cube,
            global_crop: [cube / 2, cube],
            local_crop: [cube * 2 / 7, cube / 2],
            global_views: 2,
            local_views,
            size,
        })
    }

    /// # Errors
    /// When there are fewer than two global views, a size is zero, or a crop range is empty or
    /// larger than what it is cut from.
    pub fn check(&self) -> Result<(), ConfigError> {
        let views = self.global_views;
        ConfigError::unless(views >= 2, "global_views", "must be at least 2", views)?;
        ConfigError::unless(self.size > 0, "size", "must be positive", self.size)?;
        let inner = (1..=self.cube).contains(&self.local_cube);
        ConfigError::unless(inner, "local_cube", "must be within cube", self.local_cube)?;
        for (object, [least, greatest], cube) in [
            ("global_crop", self.global_crop, self.cube),
            ("local_crop", self.local_crop, self.local_cube),
        ] {
            let holds = 0 < least && least <= greatest && greatest <= cube;
            let found = format!("{least} to {greatest} of {cube}");
            ConfigError::unless(holds, object, "must be a range within its cube", found)?;
        }
        Ok(())
    }

    /// Number of views of a scan.
    pub fn views(&self) -> usize {
        self.global_views + self.local_views
    }

    /// Where view number `view` is cut from the cube; global views come first.
    pub fn crop(&self, view: usize, rng: &mut impl Rng) -> Crop {
        let (cube, [least, greatest]) = if view < self.global_views {
            (self.cube, self.global_crop)
        } else {
            (self.local_cube, self.local_crop)
        };
        let margin = self.cube / 2 - cube / 2;
        let size = [(); 3].map(|()| rng.random_range(least..=greatest));
        let start = size.map(|side| margin + rng.random_range(0..=cube - side));
        Crop { start, size }
    }
}

/// A box in the cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// First voxel on each axis.
    pub start: [usize; 3],
    /// Voxels on each axis.
    pub size: [usize; 3],
}

/// What makes a view the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewKey {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, or any other count of how often the scan was seen.
    pub epoch: u64,
    /// The scan, by a number that does not depend on the order of the data set.
    pub scan: u64,
    /// Number of the view.
    pub view: u64,
}

impl ViewKey {
    /// The stream that all draws of this view come from.
    pub fn stream(self) -> ChaCha8Rng {
        let mut seed = [0; 32];
        let words = [self.seed, self.epoch, self.scan, self.view];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }
}

/// One view, `[C, S, S, S]` row-major.
///
/// Global views are flipped and shifted; even ones may be smoothed, odd ones gamma-adjusted. Local
/// views are only cropped, as released.
pub fn view(
    scan: Scan<'_>,
    geometry: &ViewGeometry,
    augmentation: &Augmentation,
    key: ViewKey,
) -> Vec<f32> {
    let mut rng = key.stream();
    let view = key.view as usize;
    let crop = geometry.crop(view, &mut rng);
    let mut voxels = cut(scan, geometry.cube, crop, geometry.size);
    if view < geometry.global_views {
        augmentation.apply(&mut voxels, geometry.size, &mut rng);
        if view.is_multiple_of(2) {
            augmentation.maybe_smooth(&mut voxels, geometry.size, &mut rng);
        } else {
            augmentation.maybe_adjust_gamma(&mut voxels, &mut rng);
        }
    }
    voxels
}

/// All views of a scan, global ones first.
pub fn views(
    scan: Scan<'_>,
    geometry: &ViewGeometry,
    augmentation: &Augmentation,
    [seed, epoch, number]: [u64; 3],
) -> Vec<Vec<f32>> {
    (0..geometry.views() as u64)
        .map(|index| {
            let key = ViewKey {
                seed,
                epoch,
                scan: number,
                view: index,
            };
            view(scan, geometry, augmentation, key)
        })
        .collect()
}

/// Cuts a crop of the padded cube out of a scan and resizes it by area.
fn cut(scan: Scan<'_>, cube: usize, crop: Crop, size: usize) -> Vec<f32> {
    let Scan {
        voxels,
        channels,
        shape,
    } = scan;
    let [width, height, depth] = crop.size;
    // On each axis: which voxels of the crop lie in the scan, and where there.
    let spans: [(Range<usize>, isize); 3] = [0, 1, 2].map(|axis| {
        let offset = padding(shape[axis], cube);
        let first = crop.start[axis] as isize - offset;
        let low = (-first).max(0) as usize;
        let high = (shape[axis] as isize - first).clamp(0, crop.size[axis] as isize) as usize;
        (low..high.max(low), first)
    });
    let [(xs, x0), (ys, y0), (zs, z0)] = spans;
    let mut out = Vec::with_capacity(channels * size.pow(3));
    for channel in voxels.chunks_exact(shape.iter().product()) {
        let mut values = vec![0.0; width * height * depth];
        if !zs.is_empty() {
            for x in xs.clone() {
                for y in ys.clone() {
                    let row = ((x as isize + x0) as usize * shape[1] + (y as isize + y0) as usize)
                        * shape[2];
                    let from = row + (zs.start as isize + z0) as usize;
                    let source = &channel[from..from + zs.len()];
                    let target = (x * height + y) * depth + zs.start;
                    values[target..target + source.len()].copy_from_slice(source);
                }
            }
        }
        out.extend(resize_area(&values, crop.size, [size; 3], |value| value));
    }
    out
}

/// Voxels of padding before the first one; negative where the scan is cropped. Centered as in
/// MONAI's `ResizeWithPadOrCrop`.
fn padding(len: usize, cube: usize) -> isize {
    if len <= cube {
        ((cube - len) / 2) as isize
    } else {
        -((len / 2 - cube / 2) as isize)
    }
}

#[cfg(test)]
mod tests;
