use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;
use thiserror::Error;

use super::{Reason, Slice};

/// Which series enter a cohort; a rule that is absent is not checked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Series with fewer slices are refused.
    #[serde(default = "Filter::fewest")]
    pub min_slices: usize,
    /// Lowest and highest peak tube voltage.
    pub kvp: Option<[f32; 2]>,
    /// Thinnest and thickest slices, mm.
    pub thickness_mm: Option<[f32; 2]>,
    /// Letters in front of a kernel's number.
    pub kernel_families: Option<Vec<String>>,
    /// Lowest and highest number of a kernel.
    pub kernel_sharpness: Option<[f32; 2]>,
    /// How the maker's name begins.
    pub manufacturers: Option<Vec<String>>,
    /// Body parts; a series that names none is accepted.
    pub body_parts: Option<Vec<String>>,
    /// `false` refuses series with a contrast agent.
    pub contrast: Option<bool>,
}

/// Why a filter file cannot be used.
#[derive(Debug, Error)]
pub enum FilterError {
    /// Reading failed.
    #[error("filter {}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Not what a filter looks like.
    #[error("filter {}: not a filter", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<toml::de::Error>,
    },
}

impl Filter {
    /// The selection of the paper.
    ///
    /// # Panics
    /// Never: the shipped file is tested.
    #[must_use]
    pub fn paper() -> Self {
        toml::from_str(PAPER).expect("the shipped filter parses")
    }

    /// No selection by tags.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            min_slices: FEWEST_SLICES,
            kvp: None,
            thickness_mm: None,
            kernel_families: None,
            kernel_sharpness: None,
            manufacturers: None,
            body_parts: None,
            contrast: None,
        }
    }

    /// From a TOML file.
    ///
    /// # Errors
    /// A file that cannot be read or holds an unknown rule.
    pub fn from_file(path: &Path) -> Result<Self, FilterError> {
        let text = std::fs::read_to_string(path).map_err(|source| FilterError::Io {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| FilterError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    const fn fewest() -> usize {
        FEWEST_SLICES
    }

    /// Checks the tags of a series.
    ///
    /// # Errors
    /// The first rule they break.
    pub fn check(&self, slice: &Slice) -> Result<(), Reason> {
        let tags = &slice.acquisition;
        if let (Some(parts), Some(found)) = (&self.body_parts, &tags.body_part)
            && !parts.iter().any(|part| found.eq_ignore_ascii_case(part))
        {
            return Err(Reason::BodyPart {
                found: found.clone(),
                expected: parts.clone(),
            });
        }
        if self.contrast == Some(false) && tags.contrast {
            return Err(Reason::Contrast);
        }
        in_range("KVP", tags.kvp, self.kvp)?;
        in_range(
            "SliceThickness",
            slice.thickness_mm.map(|mm| mm as f32),
            self.thickness_mm,
        )?;
        if let Some(makers) = &self.manufacturers {
            let found = known(&tags.manufacturer, "Manufacturer")?;
            let lower = found.to_lowercase();
            if !makers
                .iter()
                .any(|maker| lower.starts_with(&maker.to_lowercase()))
            {
                return Err(Reason::Manufacturer {
                    found: found.clone(),
                });
            }
        }
        self.check_kernel(&tags.kernel)
    }

    fn check_kernel(&self, kernel: &Option<String>) -> Result<(), Reason> {
        if self.kernel_families.is_none() && self.kernel_sharpness.is_none() {
            return Ok(());
        }
        let found = known(kernel, "ConvolutionKernel")?;
        let letters = found
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(found.len());
        let (family, rest) = found.split_at(letters);
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let sharpness = rest[..digits].parse().ok();
        let families = self.kernel_families.as_deref();
        let of_family = families.is_none_or(|known| known.iter().any(|name| name == family));
        let range = self.kernel_sharpness;
        let sharp = range.is_none_or(|[low, high]| {
            sharpness.is_some_and(|sharpness| (low..=high).contains(&sharpness))
        });
        if of_family && sharp {
            Ok(())
        } else {
            Err(Reason::Kernel {
                found: found.clone(),
            })
        }
    }
}

fn in_range(
    attribute: &'static str,
    found: Option<f32>,
    range: Option<[f32; 2]>,
) -> Result<(), Reason> {
    let Some([low, high]) = range else {
        return Ok(());
    };
    let found = found.ok_or(Reason::Missing { attribute })?;
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(Reason::OutOfRange {
        what: attribute,
        found,
        low,
        high,
    })
}

fn known<'a>(value: &'a Option<String>, attribute: &'static str) -> Result<&'a String, Reason> {
    value.as_ref().ok_or(Reason::Missing { attribute })
}

/// Refuses volumes that cannot be a head CT whatever their tags say: no air or no bone, shares of
/// bone and brain that no head has, or larger than a head.
///
/// # Shapes
/// `hu` gives the voxel at a flat index, axis 0 fastest.
///
/// # Errors
/// [`Reason::NotHead`] with what was found.
pub fn check_voxels(
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    hu: impl Fn(usize) -> f32 + Sync,
) -> Result<(), Reason> {
    let [nx, ny, nz] = shape;
    let count = (0..nz)
        .into_par_iter()
        .map(|z| {
            let mut count = Count::new(shape);
            for y in 0..ny {
                for x in 0..nx {
                    count.add([x, y, z], hu(x + nx * (y + ny * z)));
                }
            }
            count
        })
        .reduce(|| Count::new(shape), Count::merge);
    let refused = |what, found: String, expected| {
        Err(Reason::NotHead {
            what,
            found,
            expected,
        })
    };
    if !(count.low <= AIR_BELOW_HU && count.high >= BONE_ABOVE_HU) {
        let found = format!("{} to {} HU", count.low, count.high);
        return refused("range", found, "air below -500 and bone above 300 HU");
    }
    let share = |n: usize| n as f64 / count.tissue.max(1) as f64;
    let (bone, brain) = (share(count.bone), share(count.brain));
    if !BONE_SHARE.contains(&bone) {
        return refused(
            "bone",
            format!("{:.1} % of tissue", 100.0 * bone),
            "4 to 65 %",
        );
    }
    if brain < BRAIN_SHARE {
        return refused(
            "brain",
            format!("{:.1} % of tissue", 100.0 * brain),
            "at least 5 %",
        );
    }
    let mut extent = [0, 1, 2].map(|axis| {
        // A few stray voxels do not make an extent: count planes with enough tissue.
        let plane = count.along[axis].iter();
        let fewest = count.tissue / (EXTENT_PLANES * count.along[axis].len());
        plane.filter(|&&tissue| tissue > fewest).count() as f64 * spacing_mm[axis]
    });
    extent.sort_by(f64::total_cmp);
    if extent[2] > LARGEST_MM || extent[1] < SMALLEST_MM {
        let found = extent.map(|mm| format!("{mm:.0}")).join(" x ");
        return refused("extent", format!("{found} mm"), "a head of 80 to 300 mm");
    }
    Ok(())
}

/// What one pass over the voxels counts.
struct Count {
    low: f32,
    high: f32,
    tissue: usize,
    bone: usize,
    brain: usize,
    along: [Vec<usize>; 3],
}

impl Count {
    fn new(shape: [usize; 3]) -> Self {
        let along = shape.map(|n| vec![0; n]);
        Self {
            low: f32::MAX,
            high: f32::MIN,
            tissue: 0,
            bone: 0,
            brain: 0,
            along,
        }
    }

    fn add(&mut self, index: [usize; 3], hu: f32) {
        self.low = self.low.min(hu);
        self.high = self.high.max(hu);
        if hu > TISSUE_ABOVE_HU {
            self.tissue += 1;
            self.bone += usize::from(hu > BONE_ABOVE_HU);
            self.brain += usize::from((0.0..=BRAIN_UP_TO_HU).contains(&hu));
            for (axis, i) in index.into_iter().enumerate() {
                self.along[axis][i] += 1;
            }
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.tissue += other.tissue;
        self.bone += other.bone;
        self.brain += other.brain;
        for (mine, others) in self.along.iter_mut().zip(other.along) {
            for (mine, others) in mine.iter_mut().zip(others) {
                *mine += others;
            }
        }
        self
    }
}

const PAPER: &str = include_str!("paper_filter.toml");

/// One slice has no thickness.
const FEWEST_SLICES: usize = 2;

const AIR_BELOW_HU: f32 = -500.0;
const TISSUE_ABOVE_HU: f32 = -200.0;
const BRAIN_UP_TO_HU: f32 = 80.0;
const BONE_ABOVE_HU: f32 = 300.0;
const BONE_SHARE: std::ops::RangeInclusive<f64> = 0.04..=0.65;
const BRAIN_SHARE: f64 = 0.05;
const LARGEST_MM: f64 = 300.0;
const SMALLEST_MM: f64 = 80.0;

/// A plane counts to the extent with a tenth of the mean plane's tissue.
const EXTENT_PLANES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_filter_is_the_paper_s_and_unknown_rules_are_refused() {
        let filter = Filter::paper();
        assert_eq!(filter.kvp, Some([70.0, 150.0]));
        assert_eq!(filter.thickness_mm, Some([0.5, 5.0]));
        assert_eq!((filter.min_slices, filter.contrast), (10, Some(false)));
        assert!(toml::from_str::<Filter>("kpv = [70, 150]").is_err());
    }

    #[test]
    fn kernels_are_split_into_family_and_sharpness() {
        let filter = Filter::paper();
        for (kernel, accepted) in [
            ("Hr38", true),
            ("J40s", true),
            ("Qr40d", true),
            ("Hr60", false),
            ("Br40", false),
            ("J", false),
            ("UB", false),
            ("", false),
        ] {
            assert_eq!(
                filter.check_kernel(&Some(kernel.into())).is_ok(),
                accepted,
                "{kernel}"
            );
        }
    }
}
