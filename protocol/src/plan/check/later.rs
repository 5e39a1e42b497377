//! Rules that came after plans had been launched: they hold for a new plan, and not for one that a
//! journal holds.

use super::{PlanError, rule};
use crate::plan::{Config, Objective, Strategy};

pub(in crate::plan) fn check_later(config: &Config) -> Result<(), PlanError> {
    check_center(config)?;
    check_normalization(config)
}

/// Sites train what is a weight, and DINO's center is not trained: as a weight no site can run it.
fn check_center(config: &Config) -> Result<(), PlanError> {
    let placed = config.is_statistic(CENTER) || config.is_local(CENTER);
    let patterns = config.statistics.iter().chain(&config.local_parameters);
    let found: Vec<&str> = patterns.map(|pattern| pattern.as_str()).collect();
    rule(
        placed || config.objective != Objective::Dino,
        "statistics",
        "a pattern that matches \"center\" for objective \"dino\", here or in local_parameters",
        format!("{found:?}"),
    )
}

/// FedNova changes the shares of a mean. These strategies have none, or choose their own.
fn check_normalization(config: &Config) -> Result<(), PlanError> {
    let ignores = matches!(
        config.strategy,
        Strategy::LDawa {}
            | Strategy::Median {}
            | Strategy::TrimmedMean { .. }
            | Strategy::Krum { .. }
            | Strategy::MultiKrum { .. }
    );
    rule(
        !(config.aggregation.normalize_steps && ignores),
        "aggregation.normalize_steps",
        "only for strategies that are a mean by shares",
        config.strategy.name(),
    )
}

/// DINO's center among the tensors of a run.
const CENTER: &str = "center";
