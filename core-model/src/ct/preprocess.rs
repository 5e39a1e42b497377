use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    AIR_HU, CtError, HEAD_WINDOWS, Volume, center_crop, foreground, pad_or_crop, resize_area,
    to_1mm, to_ras,
};

/// How a scan becomes model input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preprocessing {
    /// The geometry.
    pub preset: Preset,
    /// Whether windows come before or after the resize.
    pub order: Order,
    /// Voxels along each side of the model input.
    pub size: usize,
    /// The most voxels the 1 mm volume may have.
    pub max_voxels: usize,
}

impl Preprocessing {
    /// Cap on the 1 mm volume unless another is given: 1024³ voxels.
    pub const MAX_VOXELS: usize = 1 << 30;

    /// The paper drops scans of fewer slices.
    pub const MIN_VOXELS: usize = 10;

    /// Side of the published cube (paper, Methods: 224 mm at 1 mm), which training views come from.
    pub const PAPER_CUBE_MM: usize = 224;

    /// The published input: windows first, 96³.
    #[must_use]
    pub const fn new(preset: Preset) -> Self {
        let order = Order::WindowThenResize;
        Self {
            preset,
            order,
            size: 96,
            max_voxels: Self::MAX_VOXELS,
        }
    }

    /// The whole chain: RAS, 1 mm, geometry of the preset, windows, area resize.
    ///
    /// # Errors
    /// A volume too large at 1 mm, or without a voxel above 0 HU (preset `repo`).
    pub fn run(&self, volume: Volume) -> Result<ModelInput, CtError> {
        Ok(self.model_input(&self.cropped(&self.at_1mm(volume)?)?))
    }

    /// The first half of the chain, the same for every preset: RAS at 1 mm.
    ///
    /// # Errors
    /// A volume with fewer than [`Self::MIN_VOXELS`] on an axis, or too large at 1 mm.
    pub fn at_1mm(&self, volume: Volume) -> Result<Volume, CtError> {
        let shape = volume.shape();
        if shape.iter().any(|&n| n < Self::MIN_VOXELS) {
            return Err(CtError::TooThin {
                shape,
                limit: Self::MIN_VOXELS,
            });
        }
        to_1mm(to_ras(volume), self.max_voxels)
    }

    /// The chain with every stage kept.
    ///
    /// # Errors
    /// As [`Preprocessing::run`].
    pub fn run_with_steps(&self, volume: Volume) -> Result<Steps, CtError> {
        let ras = to_ras(volume);
        let at_1mm = self.at_1mm(ras.clone())?;
        let cropped = self.cropped(&at_1mm)?;
        let input = self.model_input(&cropped);
        Ok(Steps {
            ras,
            at_1mm,
            cropped,
            input,
        })
    }

    /// The geometry of the preset, applied to a 1 mm volume.
    ///
    /// # Errors
    /// [`CtError::EmptyForeground`] if no voxel is above 0 HU (preset `repo`).
    pub fn cropped(&self, at_1mm: &Volume) -> Result<Volume, CtError> {
        match self.preset {
            Preset::Repo => foreground(at_1mm),
            Preset::Paper => {
                let padded = pad_or_crop(at_1mm, [Self::PAPER_CUBE_MM; 3], AIR_HU);
                Ok(center_crop(&padded, [PAPER_CENTER_MM; 3]))
            }
        }
    }

    /// Windows and area resize of a cropped volume.
    #[must_use]
    pub fn model_input(&self, cropped: &Volume) -> ModelInput {
        let size = [self.size; 3];
        let resize = |map: &(dyn Fn(f32) -> f32 + Sync)| {
            resize_area(cropped.voxels_hu(), cropped.shape(), size, map)
        };
        let mut values = Vec::with_capacity(HEAD_WINDOWS.len() * self.size.pow(3));
        match self.order {
            Order::WindowThenResize => {
                for window in HEAD_WINDOWS {
                    values.extend(resize(&|hu| window.apply(hu)));
                }
            }
            Order::ResizeThenWindow => {
                let small = resize(&|hu| hu);
                for window in HEAD_WINDOWS {
                    values.extend(small.iter().map(|&hu| window.apply(hu)));
                }
            }
        }
        ModelInput {
            size: self.size,
            values,
        }
    }
}

/// The geometry between 1 mm volume and model input; the two disagree (paper against released code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Published: pad or crop to 224 mm with air, center crop of 192 mm.
    Paper,
    /// Released code: the box of HU > 0; the one for released weights.
    Repo,
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "paper" => Ok(Self::Paper),
            "repo" => Ok(Self::Repo),
            found => Err(PresetError {
                what: "preset",
                found: found.into(),
                expected: "repo or paper",
            }),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paper => "paper",
            Self::Repo => "repo",
        })
    }
}

/// Windowing clips, so its place in the chain changes the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Order {
    /// Resize in HU, then window: the published feature-extraction notebook.
    #[serde(rename = "notebook")]
    ResizeThenWindow,
    /// Window, then resize: paper and training code.
    #[serde(rename = "training")]
    WindowThenResize,
}

impl FromStr for Order {
    type Err = PresetError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "notebook" => Ok(Self::ResizeThenWindow),
            "training" => Ok(Self::WindowThenResize),
            found => {
                let expected = "training or notebook";
                Err(PresetError {
                    what: "order",
                    found: found.into(),
                    expected,
                })
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ResizeThenWindow => "notebook",
            Self::WindowThenResize => "training",
        })
    }
}

/// A name that is no preset or order.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {found:?} is unknown, expected {expected}")]
pub struct PresetError {
    what: &'static str,
    found: String,
    expected: &'static str,
}

/// What the model sees.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInput {
    /// Voxels along each side.
    pub size: usize,
    /// [3, size, size, size] row-major: window, right, anterior, superior; values in [0, 1].
    pub values: Vec<f32>,
}

/// Every stage of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// Oriented, as stored otherwise.
    pub ras: Volume,
    /// Resampled to 1 mm.
    pub at_1mm: Volume,
    /// After the geometry of the preset.
    pub cropped: Volume,
    /// Windowed and resized.
    pub input: ModelInput,
}

/// Side of its center that evaluation uses.
const PAPER_CENTER_MM: usize = 192;
