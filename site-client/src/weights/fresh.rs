//! New weights: the first checkpoint of a run.

use core_model::error::ConfigError;
use core_model::init::Init;
use core_model::ssl::dino::{DinoHeadConfig, DinoNet};
use core_model::ssl::mae::{Mae, MaeConfig};
use core_model::state::{StateDict, state_dict};
use core_model::vit::{Vit, VitConfig};
use serde::{Deserialize, Serialize};

use crate::device::DeviceChoice;

/// A model by its parts; the heads are used by the objective that has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The transformer.
    pub vit: VitConfig,
    /// DINO's projection head; as published when absent.
    #[serde(default)]
    pub dino_head: DinoHeadConfig,
    /// MAE's decoder; as published when absent.
    #[serde(default)]
    pub mae: MaeConfig,
}

impl ModelSpec {
    /// One of the named models: `vit_base`, `vit_small`, `vit_tiny`.
    pub fn named(name: &str) -> Option<Self> {
        let vit = match name {
            "vit_base" => VitConfig::vit_base(),
            "vit_small" => VitConfig::vit_small(),
            "vit_tiny" => VitConfig::vit_tiny(),
            _ => return None,
        };
        Some(Self {
            vit,
            dino_head: DinoHeadConfig::default(),
            mae: MaeConfig::default(),
        })
    }
}

/// What a checkpoint is the start of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The transformer alone: fine-tuning, probing.
    Backbone,
    /// The transformer under `backbone.` and the projection head under `head.`.
    Dino,
    /// Encoder and decoder.
    Mae,
}

/// New weights from a seed; the same on every machine.
///
/// # Errors
/// When the model is not valid for the objective.
pub fn fresh(spec: &ModelSpec, objective: Objective, seed: u64) -> Result<StateDict, ConfigError> {
    let device = DeviceChoice::Cpu
        .open()
        .expect("the processor is always there");
    let mut init = Init::seeded(seed, &device);
    Ok(match objective {
        Objective::Backbone => state_dict(&Vit::new(&spec.vit, &mut init)),
        Objective::Dino => state_dict(&DinoNet::new(&spec.vit, &spec.dino_head, &mut init)?),
        Objective::Mae => state_dict(&Mae::new(&spec.vit, &spec.mae, &mut init)?),
    })
}
