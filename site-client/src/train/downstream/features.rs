//! Frozen features, computed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use core_model::heads::ProbeKind;
use core_model::init::Init;
use core_model::state::{StateDict, state_dict};
use core_model::vit::Vit;

use super::finetuning::load_backbone;
use super::loss::{tensor, to_host};
use super::room::{Shape, available_bytes};
use crate::train::data::{Labelled, Loader, Reading};
use crate::train::plan::require_vit;
use crate::train::{Plan, TrainError};

/// The tokens of a backbone for some scans of a set.
///
/// Probes that read the class token alone keep that one; augmentation plays no part, since features
/// are computed once (deviation from the release, which augments frozen inputs too).
#[derive(Clone, Debug)]
pub struct FeatureTable {
    dim: usize,
    tokens: usize,
    values: Vec<f32>,
    /// Row of each scan.
    rows: BTreeMap<usize, usize>,
}

impl FeatureTable {
    /// Computes the features that a probe of `kind` reads: single precision in memory, 4 bytes × width
    /// for each token.
    ///
    /// # Errors
    ///
    /// Weights of another architecture, a scan that cannot be read, more features than the memory
    /// that is available holds.
    pub fn compute(
        plan: &Plan,
        backbone: Option<&StateDict>,
        kind: ProbeKind,
        set: &Labelled,
        scans: &[usize],
        device: &Device,
    ) -> Result<Self, TrainError> {
        let config = plan.config();
        require_vit(config, "probing")?;
        let device = device.clone().inner();
        let vit = frozen(plan, backbone, &device)?;
        let (channels, size, dim) = (plan.vit().channels, plan.vit().image, plan.vit().dim);
        let tokens = match kind {
            ProbeKind::Attentive => plan.vit().prefix() + plan.vit().patches(),
            ProbeKind::Linear => 1,
        };
        if let Some(available) = available_bytes() {
            let scans = scans.len();
            Shape { scans, tokens, dim }.require_room(available)?;
        }
        let chunks: Vec<Vec<usize>> = scans
            .chunks(config.finetune.batch)
            .map(<[usize]>::to_vec)
            .collect();
        let (source, end) = (Arc::clone(set.source()), chunks.len() as u64);
        let mut loader = Loader::start(
            config.data.workers,
            config.data.queue,
            0,
            end,
            move |number| {
                let chunk = &chunks[number as usize];
                let mut values = Vec::new();
                for scan in chunk {
                    let volume = source.load(*scan, Reading::Evaluation).map_err(|reason| {
                        TrainError::data(format!("scan {}: {reason}", source.id(*scan)))
                    })?;
                    values.extend(volume.to_f32());
                }
                Ok::<_, TrainError>((chunk.len(), values))
            },
        );
        let mut values = Vec::with_capacity(scans.len() * tokens * dim);
        while let Some(batch) = loader.next() {
            let (count, voxels) = batch?;
            let volumes = tensor(voxels, [count, channels, size, size, size], &device);
            values.extend(to_host(vit.forward(volumes).narrow(1, 0, tokens)));
        }
        let rows = scans
            .iter()
            .enumerate()
            .map(|(row, scan)| (*scan, row))
            .collect();
        Ok(Self {
            dim,
            tokens,
            values,
            rows,
        })
    }

    /// Width of a token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The tokens of `scans`, `[B, T, E]`.
    ///
    /// # Panics
    ///
    /// If a scan has no features.
    pub(crate) fn tokens(&self, scans: &[usize], device: &Device) -> Tensor<3> {
        let length = self.tokens * self.dim;
        let mut values = Vec::with_capacity(scans.len() * length);
        for scan in scans {
            let row = self.rows[scan];
            values.extend_from_slice(&self.values[row * length..(row + 1) * length]);
        }
        tensor(values, [scans.len(), self.tokens, self.dim], device)
    }

    /// The class tokens of `scans`, row by row.
    ///
    /// # Panics
    ///
    /// If a scan has no features.
    #[must_use]
    pub fn class_tokens(&self, scans: &[usize]) -> Vec<f32> {
        let length = self.tokens * self.dim;
        let start = |scan: &usize| self.rows[scan] * length;
        scans
            .iter()
            .flat_map(|scan| &self.values[start(scan)..start(scan) + self.dim])
            .copied()
            .collect()
    }
}

/// The weights a probe stands on: those given, or the plan's random ones.
pub(crate) fn starting_backbone(
    plan: &Plan,
    backbone: Option<&StateDict>,
) -> Result<StateDict, TrainError> {
    // Drawn on the host: any device gives the same.
    let device = crate::device::DeviceChoice::Cpu
        .open()
        .map_err(|error| TrainError::Device {
            reason: error.to_string(),
        })?;
    Ok(state_dict(&frozen(plan, backbone, &device)?))
}

fn frozen(plan: &Plan, backbone: Option<&StateDict>, device: &Device) -> Result<Vit, TrainError> {
    let vit = Vit::new(plan.vit(), &mut Init::seeded(plan.config().seed, device));
    match backbone {
        Some(weights) => load_backbone(vit, weights),
        None => Ok(vit),
    }
}
