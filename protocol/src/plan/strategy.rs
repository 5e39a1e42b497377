//! How updates become the next model: the closed choice of strategies.

use serde::{Deserialize, Serialize};

/// How updates become the next model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Strategy {
    /// Mean of the updates (McMahan et al. 2017).
    Fedavg {},
    /// FedAvg; sites add `mu`/2 · ‖θ − global‖² to their loss (Li et al. 2020).
    Fedprox {
        /// Strength of the pull towards the global model.
        mu: f64,
    },
    /// Server momentum (Hsu et al. 2019).
    Fedavgm {
        /// Server learning rate.
        server_learning_rate: f64,
        /// Decay of the velocity.
        momentum: f64,
    },
    /// Adaptive server: Adam (Reddi et al. 2021, algorithm 2).
    Fedadam {
        /// Server learning rate.
        server_learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Degree of adaptivity, the floor under the second moment's root.
        tau: f64,
    },
    /// Adaptive server: Yogi (Reddi et al. 2021, algorithm 2).
    Fedyogi {
        /// Server learning rate.
        server_learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Degree of adaptivity.
        tau: f64,
    },
    /// Adaptive server: Adagrad (Reddi et al. 2021, algorithm 2).
    Fedadagrad {
        /// Server learning rate.
        server_learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Degree of adaptivity.
        tau: f64,
    },
    /// Control variates correct the drift of sites (Karimireddy et al. 2020).
    Scaffold {
        /// Server learning rate.
        server_learning_rate: f64,
    },
    /// FedAvg; each site mixes the global model into its own by their divergence
    /// (Zhuang et al. 2022).
    Fedema {
        /// The divergence scaler's target τ: at a site's first synchronization the mixing rate
        /// is τ, and λ follows from it.
        tau: f64,
    },
    /// Each tensor of each site is weighted by its cosine to the global one
    /// (Rehman et al. 2023).
    LDawa {},
    /// Coordinate-wise median (Yin et al. 2018).
    Median {},
    /// Coordinate-wise mean without the `trim` smallest and largest (Yin et al. 2018).
    TrimmedMean {
        /// Values left out at each end.
        trim: u32,
    },
    /// The one update closest to its neighbours (Blanchard et al. 2017).
    Krum {
        /// Sites that may be malicious.
        malicious: u32,
    },
    /// Mean of the `keep` updates closest to their neighbours (Blanchard et al. 2017).
    MultiKrum {
        /// Sites that may be malicious.
        malicious: u32,
        /// Updates that are averaged.
        keep: u32,
    },
}

impl Strategy {
    /// Its name in plan files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fedavg {} => "fedavg",
            Self::Fedprox { .. } => "fedprox",
            Self::Fedavgm { .. } => "fedavgm",
            Self::Fedadam { .. } => "fedadam",
            Self::Fedyogi { .. } => "fedyogi",
            Self::Fedadagrad { .. } => "fedadagrad",
            Self::Scaffold { .. } => "scaffold",
            Self::Fedema { .. } => "fedema",
            Self::LDawa {} => "l-dawa",
            Self::Median {} => "median",
            Self::TrimmedMean { .. } => "trimmed-mean",
            Self::Krum { .. } => "krum",
            Self::MultiKrum { .. } => "multi-krum",
        }
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self::Fedavg {}
    }
}

/// How updates are weighted and bounded before the strategy sees them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregation {
    /// What an update counts by, where the strategy is a mean.
    pub weighting: Weighting,
    /// FedNova (Wang et al. 2020): each update is divided by its own steps, the mean multiplied by
    /// their weighted mean, so partial work does not pull the objective. Only for strategies that
    /// are a mean by shares: not for `l-dawa`, the median and trimmed mean, or Krum.
    pub normalize_steps: bool,
    /// Updates with a larger Euclidean norm are scaled down to it.
    pub clip_norm: Option<f64>,
}

/// What an update counts by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// Examples the site trained on in the round.
    #[default]
    Examples,
    /// Every site the same.
    Uniform,
}
