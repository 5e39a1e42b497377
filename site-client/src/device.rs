//! The device a model runs on. The only file that names a backend.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use thiserror::Error;

/// A device by its flag: `cpu`, `cuda` or `cuda:1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, with all its cores.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
}

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("device {0:?}: expected cpu, cuda or cuda:NUMBER")]
    Unknown(String),
    /// This program was built without CUDA.
    #[error("device {0}: this build has no CUDA support; build it with `--features cuda`")]
    NotBuilt(DeviceChoice),
    /// No such GPU, or no driver.
    #[error("device {device}: no such device, found {found}")]
    NotFound {
        /// The device asked for.
        device: DeviceChoice,
        /// How many there are.
        found: usize,
    },
}

impl DeviceChoice {
    /// The device, without gradients; call `.autodiff()` on it to train.
    ///
    /// # Errors
    /// When a GPU is asked for and this build, or this machine, has none of that number.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Cuda(index) => self.cuda(index),
        }
    }

    /// This device and the ones that follow it, `count` of them.
    ///
    /// # Errors
    /// As for [`open`](Self::open); the CPU is one device.
    pub fn open_several(self, count: usize) -> Result<Vec<Device>, DeviceError> {
        let choice = |place| match self {
            Self::Cpu if place > 0 => Err(DeviceError::NotFound {
                device: self,
                found: 1,
            }),
            Self::Cpu => Ok(self),
            Self::Cuda(index) => Ok(Self::Cuda(index + place)),
        };
        (0..count).map(|place| choice(place)?.open()).collect()
    }

    #[cfg(feature = "cuda")]
    fn cuda(self, index: usize) -> Result<Device, DeviceError> {
        use burn::tensor::DeviceType;

        // Without a driver, the runtime panics instead of finding nothing.
        let found =
            std::panic::catch_unwind(|| Device::enumerate(DeviceType::Cuda).into_vec().len())
                .unwrap_or(0);
        if index < found {
            Ok(Device::cuda(index))
        } else {
            Err(DeviceError::NotFound {
                device: self,
                found,
            })
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda(self, _index: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt(self))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::Unknown(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_by_name_and_nothing_else_is() {
        for (text, device) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(device));
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0"] {
            assert_eq!(
                text.parse::<DeviceChoice>(),
                Err(DeviceError::Unknown(text.to_owned()))
            );
        }
    }

    #[test]
    fn the_processor_is_one_device() {
        assert_eq!(DeviceChoice::Cpu.open_several(1).unwrap().len(), 1);
        let error = DeviceChoice::Cpu.open_several(2).unwrap_err();
        assert_eq!(error.to_string(), "device cpu: no such device, found 1");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_in_a_build_without_it_names_the_build_flag() {
        let error = DeviceChoice::Cuda(1).open().unwrap_err();
        assert_eq!(
            error.to_string(),
            "device cuda:1: this build has no CUDA support; build it with `--features cuda`"
        );
    }
}
