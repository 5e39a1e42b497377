//! Optimizers whose moments have names, so that they can be saved, sent and started anew.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use core_model::state::{NamedTensor, StateDict};

/// An optimizer of one module.
///
/// Source: PyTorch's `AdamW`, `Adam` and `SGD`, which the paper trains with; ε is 1e-8. Moments are
/// kept by parameter name and step counts by parameter, as PyTorch does, so that a parameter that
/// is frozen at first starts its bias correction when it thaws.
#[derive(Debug)]
pub struct Optimizer {
    method: Method,
    clip: Clip,
    decay_all: bool,
    moments: BTreeMap<String, Moments>,
    pull: Option<Pull>,
}

/// What a federation adds to every gradient before it is clipped: μ (θ − anchor) for FedProx (Li et
/// al. 2020), the difference of control variates c − cₖ for SCAFFOLD (Karimireddy et al. 2020).
#[derive(Debug, Default)]
pub struct Pull {
    mu: f64,
    anchor: BTreeMap<String, Tensor<1>>,
    correction: BTreeMap<String, Tensor<1>>,
}

impl Pull {
    /// A pull with strength `mu` towards the parameters of `anchor`.
    #[must_use]
    pub fn towards<M: Module>(anchor: &M, mu: f64) -> Self {
        Self {
            mu,
            anchor: flat(anchor),
            ..Self::default()
        }
    }

    /// The values of `correction`, added to every gradient.
    #[must_use]
    pub fn correcting<M: Module>(correction: &M) -> Self {
        Self {
            correction: flat(correction),
            ..Self::default()
        }
    }

    fn apply(&self, name: &str, value: &Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let mut gradient = gradient;
        if let Some(anchor) = self.anchor.get(name) {
            gradient = gradient + (value.clone() - anchor.clone()) * self.mu;
        }
        if let Some(correction) = self.correction.get(name) {
            gradient = gradient + correction.clone();
        }
        gradient
    }
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Adam; weight decay enters through the gradient.
    Adam {
        /// Decay rates of the moments.
        betas: [f64; 2],
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay rates of the moments.
        betas: [f64; 2],
    },
    /// Gradient descent with momentum; weight decay enters through the gradient.
    Sgd {
        /// How much of the old direction stays.
        momentum: f64,
    },
}

/// How gradients are bounded; a bound of 0 is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The norm of each parameter's gradient (pre-training, as released).
    Each(f64),
    /// The norm of all gradients together (fine-tuning, as released).
    Global(f64),
}

/// What one step trains with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRates<'a> {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Parameters whose name ends so stay as they are, without decay.
    pub frozen: &'a [&'a str],
}

#[derive(Debug)]
struct Moments {
    first: Tensor<1>,
    second: Option<Tensor<1>>,
    steps: u32,
}

impl Optimizer {
    /// Without moments. Unless `decay_all`, vectors (norms, biases) and token and position tables
    /// do not decay.
    #[must_use]
    pub fn new(method: Method, clip: Clip, decay_all: bool) -> Self {
        Self {
            method,
            clip,
            decay_all,
            moments: BTreeMap::new(),
            pull: None,
        }
    }

    /// What is added to every gradient from now on.
    pub fn set_pull(&mut self, pull: Option<Pull>) {
        self.pull = pull;
    }

    /// One step; a parameter without a gradient stays as it is.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        rates: StepRates<'_>,
    ) -> M {
        let global = match self.clip {
            Clip::Global(bound) if bound > 0.0 => {
                let mut norm = SquaredNorm {
                    gradients: &gradients,
                    sum: None,
                };
                module.visit(&mut norm);
                norm.sum.map(|sum| shrink(sum.sqrt(), bound))
            }
            _ => None,
        };
        module.map(&mut Update {
            optimizer: self,
            gradients,
            rates,
            global,
            path: Vec::new(),
        })
    }

    /// The moments as named tensors.
    #[must_use]
    pub fn state(&self) -> StateDict {
        let mut state = StateDict::new();
        for (name, moments) in &self.moments {
            let mut insert = |kind: &str, values: Vec<f32>| {
                let shape = vec![values.len()];
                state.insert(format!("{kind}/{name}"), NamedTensor { shape, values });
            };
            insert("first", host(&moments.first));
            if let Some(second) = &moments.second {
                insert("second", host(second));
            }
            // Exact: runs are shorter than 2²⁴ steps.
            insert("steps", vec![moments.steps as f32]);
        }
        state
    }

    /// Replaces the moments by those of [`state`](Self::state); an empty state starts anew.
    pub fn load(&mut self, state: &StateDict, device: &Device) {
        let tensor = |named: &NamedTensor| {
            let data = TensorData::new(named.values.clone(), [named.values.len()]);
            Tensor::<1>::from_data(data, device)
        };
        self.moments.clear();
        for (key, first) in state {
            let Some(name) = key.strip_prefix("first/") else {
                continue;
            };
            let second = state.get(&format!("second/{name}")).map(&tensor);
            let steps = state.get(&format!("steps/{name}"));
            let steps = steps
                .and_then(|steps| steps.values.first())
                .map_or(0, |steps| *steps as u32);
            self.moments.insert(
                name.to_owned(),
                Moments {
                    first: tensor(first),
                    second,
                    steps,
                },
            );
        }
    }

    /// The change of a parameter, to be subtracted; `gradient` is clipped and flat.
    fn change(
        &mut self,
        name: &str,
        value: Tensor<1>,
        gradient: Tensor<1>,
        rates: &Rates,
    ) -> Tensor<1> {
        const EPSILON: f64 = 1e-8;
        let Rates { lr, decay } = *rates;
        let coupled = !matches!(self.method, Method::AdamW { .. }) && decay > 0.0;
        let gradient = if coupled {
            gradient + value.clone() * decay
        } else {
            gradient
        };
        let old = self.moments.remove(name);
        let steps = old.as_ref().map_or(0, |old| old.steps) + 1;
        let (first, second) = match old {
            Some(old) => (Some(old.first), old.second),
            None => (None, None),
        };
        let mix = |old: Option<Tensor<1>>, new: Tensor<1>, keep: f64| match old {
            Some(old) => old * keep + new * (1.0 - keep),
            None => new * (1.0 - keep),
        };
        let (change, first, second) = match self.method {
            Method::Sgd { momentum } => {
                let first = match first {
                    Some(first) => first * momentum + gradient,
                    None => gradient,
                };
                (first.clone() * lr, first, None)
            }
            Method::Adam { betas } | Method::AdamW { betas } => {
                let [keep, keep_squares] = betas;
                let first = mix(first, gradient.clone(), keep);
                let second = mix(second, gradient.square(), keep_squares);
                let bias = |keep: f64| 1.0 - keep.powi(steps as i32);
                let scale = second.clone().sqrt() / bias(keep_squares).sqrt() + EPSILON;
                (
                    first.clone() / scale * (lr / bias(keep)),
                    first,
                    Some(second),
                )
            }
        };
        self.moments.insert(
            name.to_owned(),
            Moments {
                first,
                second,
                steps,
            },
        );
        if matches!(self.method, Method::AdamW { .. }) && decay > 0.0 {
            change + value * (lr * decay)
        } else {
            change
        }
    }
}

struct Rates {
    lr: f64,
    decay: f64,
}

/// Every parameter of a module by name, flat.
fn flat<M: Module>(module: &M) -> BTreeMap<String, Tensor<1>> {
    struct Flat {
        path: Vec<String>,
        values: BTreeMap<String, Tensor<1>>,
    }

    impl ModuleVisitor for Flat {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val().inner().flatten::<1>(0, D - 1);
            self.values.insert(self.path.join("."), value);
        }
    }

    let mut flat = Flat {
        path: Vec::new(),
        values: BTreeMap::new(),
    };
    module.visit(&mut flat);
    flat.values
}

/// The sum of the squares of all gradients.
struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let squares = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

struct Update<'a> {
    optimizer: &'a mut Optimizer,
    gradients: GradientsParams,
    rates: StepRates<'a>,
    /// Factor on every gradient.
    global: Option<Tensor<1>>,
    path: Vec<String>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let name = self.path.join(".");
        if self.rates.frozen.iter().any(|end| name.ends_with(end)) {
            return param;
        }
        let mut gradient = gradient.flatten::<1>(0, D - 1);
        if let Some(pull) = &self.optimizer.pull {
            let value = param.val().inner().flatten::<1>(0, D - 1);
            gradient = pull.apply(&name, &value, gradient);
        }
        let gradient = match (&self.global, self.optimizer.clip) {
            (Some(factor), _) => gradient * factor.clone(),
            (None, Clip::Each(bound)) if bound > 0.0 => {
                let norm = gradient.clone().square().sum().sqrt();
                gradient * shrink(norm, bound)
            }
            (None, _) => gradient,
        };
        let decays = self.optimizer.decay_all || D > 1 && !is_table(&name);
        let decay = if decays { self.rates.weight_decay } else { 0.0 };
        let rates = Rates {
            lr: self.rates.lr,
            decay,
        };
        param.map(|old| {
            let shape = old.dims();
            let value = old.inner().flatten::<1>(0, D - 1);
            let change = self
                .optimizer
                .change(&name, value.clone(), gradient, &rates);
            Tensor::from_inner((value - change).reshape(shape)).require_grad()
        })
    }
}

/// Tokens and position tables: not weights, though no vectors.
fn is_table(name: &str) -> bool {
    name.ends_with("_token") || name.ends_with("_tokens") || name.ends_with("position_embeddings")
}

/// The factor that brings a norm under `bound`, as `clip_grad_norm_` computes it.
fn shrink(norm: Tensor<1>, bound: f64) -> Tensor<1> {
    ((norm + 1e-6).recip() * bound).clamp_max(1.0)
}

fn host(tensor: &Tensor<1>) -> Vec<f32> {
    tensor
        .clone()
        .into_data()
        .convert::<f32>()
        .try_to_vec::<f32>()
        .expect("converted to float32")
}
