//! The three optimizers behind one face, with moments that have names: they can be saved, sent and
//! started anew.

use burn::module::Module;
use core_model::adamw::{AdamW, AdamWConfig, DecayRule, Rate};
use core_model::gradients::{Clipping, Gradients};
use core_model::sgd::{Sgd, add_decay};
use core_model::state::StateDict;

use super::{OptimizerKind, TrainError};

/// How much of the old direction plain gradient descent keeps.
const MOMENTUM: f64 = 0.9;

/// An optimizer of one module.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    clipping: Clipping,
    pull: Option<Pull>,
}

/// What a federation adds to every gradient before it is clipped: μ (θ − anchor) for FedProx (Li et
/// al. 2020), the difference of control variates c − cₖ for SCAFFOLD (Karimireddy et al. 2020).
#[derive(Debug, Default)]
pub struct Pull {
    mu: f32,
    anchor: Gradients,
    correction: Gradients,
}

impl Pull {
    /// A pull with strength `mu` towards the parameters of `anchor`.
    #[must_use]
    pub fn towards<M: Module>(anchor: &M, mu: f64) -> Self {
        let anchor = Gradients::parameters(anchor);
        Self {
            mu: mu as f32,
            anchor,
            ..Self::default()
        }
    }

    /// The values of `correction`, added to every gradient.
    #[must_use]
    pub fn correcting<M: Module>(correction: &M) -> Self {
        Self {
            correction: Gradients::parameters(correction),
            ..Self::default()
        }
    }

    fn apply<M: Module>(&self, module: &M, gradients: &mut Gradients) {
        if self.mu != 0.0 {
            gradients.add_scaled(&Gradients::parameters(module), self.mu);
            gradients.add_scaled(&self.anchor, -self.mu);
        }
        gradients.add_scaled(&self.correction, 1.0);
    }
}

/// Gradients that would make parameters that are no numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("gradient norm is {norm}, expected a finite number")]
pub struct NotFinite {
    /// Their norm over all parameters, before clipping.
    pub norm: f64,
}

impl NotFinite {
    /// The fault of a run, in step `step` counted from 1.
    pub(crate) fn at(self, step: u64) -> TrainError {
        TrainError::Diverged {
            step,
            figure: "gradient norm",
            value: self.norm,
            scans: Vec::new(),
            checkpoint: None,
        }
    }
}

#[derive(Debug)]
enum Rule {
    /// Weight decay enters through the gradient.
    Adam(AdamWConfig, AdamW),
    AdamW(AdamWConfig, AdamW),
    Sgd(Sgd),
}

impl Optimizer {
    /// Without history.
    #[must_use]
    pub fn new(kind: OptimizerKind, betas: [f64; 2], decay_all: bool, clipping: Clipping) -> Self {
        let [beta1, beta2] = betas;
        let decay = if decay_all {
            DecayRule::Everything
        } else {
            DecayRule::WeightsOnly
        };
        let config = AdamWConfig {
            beta1,
            beta2,
            decay,
            ..AdamWConfig::default()
        };
        let rule = match kind {
            OptimizerKind::Adam => Rule::Adam(config, AdamW::new(config)),
            OptimizerKind::Adamw => Rule::AdamW(config, AdamW::new(config)),
            OptimizerKind::Sgd => Rule::Sgd(Sgd::new(MOMENTUM)),
        };
        Self {
            rule,
            clipping,
            pull: None,
        }
    }

    /// What is added to every gradient from now on.
    pub fn set_pull(&mut self, pull: Option<Pull>) {
        self.pull = pull;
    }

    /// Clips the gradients and updates every parameter that has one.
    ///
    /// # Errors
    ///
    /// Gradients whose norm is no number; neither the parameters nor the moments have changed.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        mut gradients: Gradients,
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<M, NotFinite> {
        if let Some(pull) = &self.pull {
            pull.apply(&module, &mut gradients);
        }
        let norm = gradients.clip(self.clipping);
        if !norm.is_finite() {
            return Err(NotFinite { norm });
        }
        Ok(match &mut self.rule {
            Rule::Adam(_, adam) => {
                add_decay(&module, &mut gradients, weight_decay);
                adam.step(module, &gradients, |_| Rate {
                    learning_rate,
                    weight_decay: 0.0,
                })
            }
            Rule::AdamW(_, adamw) => adamw.step(module, &gradients, |_| Rate {
                learning_rate,
                weight_decay,
            }),
            Rule::Sgd(sgd) => {
                add_decay(&module, &mut gradients, weight_decay);
                sgd.step(module, &gradients, |_| Rate {
                    learning_rate,
                    weight_decay: 0.0,
                })
            }
        })
    }

    /// The moments as named tensors; none before the first step.
    #[must_use]
    pub fn state(&self) -> StateDict {
        match &self.rule {
            Rule::Adam(_, adam) | Rule::AdamW(_, adam) => adam.state(),
            Rule::Sgd(sgd) => sgd.state(),
        }
    }

    /// Replaces the moments by those of [`state`](Self::state); an empty state starts anew.
    ///
    /// # Errors
    ///
    /// Tensors that are no moments.
    pub fn restore(&mut self, state: StateDict) -> Result<(), TrainError> {
        match &mut self.rule {
            Rule::Adam(config, adam) | Rule::AdamW(config, adam) => {
                *adam = AdamW::restore(*config, state)
                    .map_err(|error| TrainError::data(error.to_string()))?;
            }
            Rule::Sgd(sgd) => *sgd = Sgd::restore(MOMENTUM, state),
        }
        Ok(())
    }
}

/// A bound of 0 is none.
pub(crate) fn per_parameter(bound: f64) -> Clipping {
    if bound > 0.0 {
        Clipping::PerParameter(bound)
    } else {
        Clipping::None
    }
}

/// A bound of 0 is none.
pub(crate) fn global(bound: f64) -> Clipping {
    if bound > 0.0 {
        Clipping::Global(bound)
    } else {
        Clipping::None
    }
}
