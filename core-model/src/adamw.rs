//! AdamW (Loshchilov & Hutter 2019), as PyTorch computes it.
//!
//! The moments live on the host and one pass over memory does the whole update: on the CPU device
//! the parameters are taken over and given back without a copy. Its state can be saved and restored
//! exactly, so a resumed run continues bit for bit.

use std::collections::BTreeMap;

use burn::module::Module;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::gradients::{CHUNK, Gradients};
use crate::state::{NamedTensor, StateDict};

/// What stays the same over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Which parameters decay.
    pub decay: DecayRule,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: DecayRule::Everything,
        }
    }
}

/// Which parameters weight decay applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayRule {
    /// Every parameter, as published.
    #[default]
    Everything,
    /// Neither norms, nor biases, nor tokens, nor the position table.
    WeightsOnly,
}

impl DecayRule {
    /// Whether the parameter of this name and rank decays.
    pub fn applies(self, name: &str, rank: usize) -> bool {
        match self {
            Self::Everything => true,
            Self::WeightsOnly => {
                rank > 1
                    && !name.ends_with("position_embeddings")
                    && !name.ends_with("_token")
                    && !name.ends_with("_tokens")
            }
        }
    }
}

/// Learning rate and weight decay of one parameter at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay, before [`DecayRule`].
    pub weight_decay: f64,
}

/// The optimizer and its moments.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: AdamWConfig,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug, Clone)]
struct Moments {
    /// Updates this parameter has had.
    steps: u32,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// Saved optimizer state that cannot be restored.
#[derive(Debug, Error)]
pub enum StateError {
    /// A tensor that is none of ours.
    #[error("optimizer state: key {0} is neither exp_avg, exp_avg_sq nor step of a parameter")]
    Unexpected(String),
    /// One of the three tensors of a parameter is missing or of another length.
    #[error("optimizer state: {0} must have exp_avg, exp_avg_sq of one length and a step")]
    Incomplete(String),
}

impl AdamW {
    /// An optimizer without history.
    pub fn new(config: AdamWConfig) -> Self {
        Self {
            config,
            moments: BTreeMap::new(),
        }
    }

    /// Updates every parameter that has a gradient; `rate` names its learning rate and weight decay.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: &Gradients,
        rate: impl Fn(&str) -> Rate,
    ) -> M {
        gradients.update(module, |name, rank, values, gradient| {
            let mut rate = rate(name);
            if !self.config.decay.applies(name, rank) {
                rate.weight_decay = 0.0;
            }
            self.update(name, rate, values, gradient);
        })
    }

    /// The moments: for each parameter `exp_avg.NAME`, `exp_avg_sq.NAME` (flat, in storage order)
    /// and `step.NAME`.
    pub fn state(&self) -> StateDict {
        let mut state = StateDict::new();
        for (name, moments) in &self.moments {
            let mut put = |kind: &str, values: Vec<f32>| {
                state.insert(
                    format!("{kind}.{name}"),
                    NamedTensor {
                        shape: vec![values.len()],
                        values,
                    },
                )
            };
            put("exp_avg", moments.first.clone());
            put("exp_avg_sq", moments.second.clone());
            put("step", vec![moments.steps as f32]);
        }
        state
    }

    /// The optimizer as it was when [`state`](Self::state) was taken.
    ///
    /// # Errors
    /// When a tensor is missing, unexpected or of the wrong length.
    pub fn restore(config: AdamWConfig, mut state: StateDict) -> Result<Self, StateError> {
        let names: Vec<String> = state
            .keys()
            .filter_map(|key| key.strip_prefix("exp_avg.").map(str::to_owned))
            .collect();
        let mut moments = BTreeMap::new();
        for name in names {
            let mut take = |kind: &str| state.remove(&format!("{kind}.{name}"));
            let (first, second, step) = (take("exp_avg"), take("exp_avg_sq"), take("step"));
            let (Some(first), Some(second), Some(step)) = (first, second, step) else {
                return Err(StateError::Incomplete(name));
            };
            let [steps] = step.values[..] else {
                return Err(StateError::Incomplete(name));
            };
            if first.values.len() != second.values.len() {
                return Err(StateError::Incomplete(name));
            }
            let (first, second) = (first.values, second.values);
            moments.insert(
                name,
                Moments {
                    steps: steps as u32,
                    first,
                    second,
                },
            );
        }
        match state.into_keys().next() {
            Some(key) => Err(StateError::Unexpected(key)),
            None => Ok(Self { config, moments }),
        }
    }

    fn update(&mut self, name: &str, rate: Rate, values: &mut [f32], gradient: &[f32]) {
        let moments = self
            .moments
            .entry(name.to_owned())
            .or_insert_with(|| Moments {
                steps: 0,
                first: vec![0.0; values.len()],
                second: vec![0.0; values.len()],
            });
        assert_eq!(
            [values.len(), gradient.len(), moments.first.len()],
            [values.len(); 3],
            "{name}: lengths of parameter, gradient and moments"
        );
        moments.steps += 1;
        let AdamWConfig {
            beta1,
            beta2,
            epsilon,
            ..
        } = self.config;
        let correction1 = 1.0 - beta1.powi(moments.steps as i32);
        let correction2 = 1.0 - beta2.powi(moments.steps as i32);
        let keep = (1.0 - rate.learning_rate * rate.weight_decay) as f32;
        let step = (rate.learning_rate / correction1) as f32;
        let root = (1.0 / correction2.sqrt()) as f32;
        let epsilon = epsilon as f32;
        let (new1, new2, beta2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, beta2 as f32);
        values
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(moments.first.par_chunks_mut(CHUNK))
            .zip(moments.second.par_chunks_mut(CHUNK))
            .for_each(|(((values, gradient), first), second)| {
                let moments = first.iter_mut().zip(second);
                for ((value, &g), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
                    *first += (g - *first) * new1;
                    *second = *second * beta2 + g * g * new2;
                    *value = *value * keep - step * *first / (second.sqrt() * root + epsilon);
                }
            });
    }
}
