//! What a strategy needs of the rest of a plan.

use super::{PlanError, rule};
use crate::plan::{Cohort, Config, Objective, Strategy};

/// Robust rules need enough sites for their guarantee; the quorum is what they can count on.
pub(super) fn check_strategy(strategy: &Strategy, cohort: &Cohort) -> Result<(), PlanError> {
    let quorum = cohort.quorum() as u64;
    let positive = |field, value: f64| {
        rule(
            value.is_finite() && value > 0.0,
            field,
            "finite and above 0",
            value,
        )
    };
    let decay = |field, value: f64| {
        rule(
            (0.0..1.0).contains(&value),
            field,
            "at least 0, below 1",
            value,
        )
    };
    match *strategy {
        Strategy::Fedavg {} | Strategy::LDawa {} | Strategy::Median {} => Ok(()),
        Strategy::Fedprox { mu } => positive("strategy.mu", mu),
        Strategy::Fedavgm {
            server_learning_rate,
            momentum,
        } => {
            positive("strategy.server_learning_rate", server_learning_rate)?;
            decay("strategy.momentum", momentum)
        }
        Strategy::Fedadam {
            server_learning_rate,
            beta1,
            beta2,
            tau,
        }
        | Strategy::Fedyogi {
            server_learning_rate,
            beta1,
            beta2,
            tau,
        } => {
            positive("strategy.server_learning_rate", server_learning_rate)?;
            decay("strategy.beta1", beta1)?;
            decay("strategy.beta2", beta2)?;
            positive("strategy.tau", tau)
        }
        Strategy::Fedadagrad {
            server_learning_rate,
            beta1,
            tau,
        } => {
            positive("strategy.server_learning_rate", server_learning_rate)?;
            decay("strategy.beta1", beta1)?;
            positive("strategy.tau", tau)
        }
        Strategy::Scaffold {
            server_learning_rate,
        } => positive("strategy.server_learning_rate", server_learning_rate),
        Strategy::Fedema { tau } => rule((0.0..=1.0).contains(&tau), "strategy.tau", "0 to 1", tau),
        Strategy::TrimmedMean { trim } => {
            let fits = 2 * u64::from(trim) < quorum;
            rule(fits, "strategy.trim", "below half of the quorum", trim)
        }
        Strategy::Krum { malicious } => {
            let fits = 2 * u64::from(malicious) + 2 < quorum;
            rule(
                fits,
                "strategy.malicious",
                "2 x malicious + 2 below the quorum",
                malicious,
            )
        }
        Strategy::MultiKrum { malicious, keep } => {
            let fits = 2 * u64::from(malicious) + 2 < quorum;
            rule(
                fits,
                "strategy.malicious",
                "2 x malicious + 2 below the quorum",
                malicious,
            )?;
            let fits = keep >= 1 && u64::from(keep) + u64::from(malicious) <= quorum;
            rule(
                fits,
                "strategy.keep",
                "1 to the quorum less malicious",
                keep,
            )
        }
    }
}

/// FedProx and SCAFFOLD change the sites' gradients, which only pre-training lets them do: in a
/// classifier's plan they would be a name for FedAvg.
pub(super) fn check_gradient_rule(config: &Config) -> Result<(), PlanError> {
    let changes_gradients = matches!(
        config.strategy,
        Strategy::Fedprox { .. } | Strategy::Scaffold { .. }
    );
    let classifies = matches!(config.objective, Objective::Finetune | Objective::Probe);
    rule(
        !(changes_gradients && classifies),
        "strategy.name",
        "neither fedprox nor scaffold for objectives \"finetune\" and \"probe\"",
        config.strategy.name(),
    )
}
