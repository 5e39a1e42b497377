//! The rules a plan must keep; each broken rule is an error that names the field.

mod later;
mod strategy;

use std::collections::BTreeSet;

use thiserror::Error;

use super::config::{Cohort, CohortRule, Config, Objective};
use super::{Cosine, Plan};
pub(super) use later::check_later;
use strategy::{check_gradient_rule, check_strategy};

/// Why a text is not a plan.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A rule is broken.
    #[error("plan: {field}: {rule}, found {found}")]
    Rule {
        /// Field, as in the file.
        field: &'static str,
        /// What the rule is.
        rule: &'static str,
        /// What was found.
        found: String,
    },
    /// Not the schema's TOML.
    #[error("plan: not the schema's TOML")]
    Syntax(#[from] toml::de::Error),
    /// Too long to be a plan.
    #[error("plan: expected at most {} bytes, found {found}", Plan::MAX_BYTES)]
    TooLong {
        /// Bytes found.
        found: usize,
    },
}

pub(super) fn check(config: &Config) -> Result<(), PlanError> {
    let Config {
        name,
        model,
        rounds,
        cohort,
        ..
    } = config;
    rule(
        is_name(name),
        "name",
        "1 to 64 letters, digits or hyphens",
        name,
    )?;
    rule(
        is_name(model),
        "model",
        "1 to 64 letters, digits or hyphens",
        model,
    )?;
    rule(*rounds <= MAX_ROUNDS, "rounds", "at most 100000", rounds)?;
    check_patterns(config)?;
    check_cohort(cohort)?;
    check_strategy(&config.strategy, cohort)?;
    check_gradient_rule(config)?;
    check_bounds(config)?;
    check_evaluation(config)?;
    if config.objective == Objective::Evaluate {
        let found = rounds;
        rule(
            *rounds == 0,
            "rounds",
            "0 for objective \"evaluate\"",
            found,
        )?;
        rule(
            config.local.is_none(),
            "local",
            "absent for objective \"evaluate\"",
            "present",
        )?;
        rule(
            config.evaluation.is_some(),
            "evaluation",
            "present for objective \"evaluate\"",
            "none",
        )
    } else {
        rule(*rounds > 0, "rounds", "at least 1", rounds)?;
        check_training(config)
    }
}

fn check_patterns(config: &Config) -> Result<(), PlanError> {
    for (field, patterns) in [
        ("local_parameters", &config.local_parameters),
        ("statistics", &config.statistics),
    ] {
        rule(
            patterns.len() <= MAX_LIST,
            field,
            "at most 256 patterns",
            patterns.len(),
        )?;
        for pattern in patterns {
            let text = pattern.as_str();
            rule(
                !text.is_empty() && text.len() <= 256,
                field,
                "1 to 256 bytes each",
                text,
            )?;
        }
    }
    Ok(())
}

fn check_cohort(cohort: &Cohort) -> Result<(), PlanError> {
    let sites = cohort.sites.len();
    rule(
        (1..=MAX_LIST).contains(&sites),
        "cohort.sites",
        "1 to 256 sites",
        sites,
    )?;
    let evaluators = cohort.evaluators.len();
    rule(
        evaluators <= MAX_LIST,
        "cohort.evaluators",
        "at most 256 sites",
        evaluators,
    )?;
    let mut seen = BTreeSet::new();
    for site in cohort.sites.iter().chain(&cohort.evaluators) {
        rule(
            seen.insert(site),
            "cohort.sites",
            "each site once, in one role",
            site,
        )?;
    }
    match (cohort.rule, cohort.quorum) {
        (CohortRule::Full, quorum) => {
            let found = quorum.unwrap_or_default();
            rule(
                quorum.is_none(),
                "cohort.quorum",
                "absent under rule \"full\"",
                found,
            )?;
        }
        (CohortRule::Quorum, None) => {
            rule(
                false,
                "cohort.quorum",
                "present under rule \"quorum\"",
                "none",
            )?;
        }
        (CohortRule::Quorum, Some(quorum)) => {
            let fits = quorum >= 1 && quorum as usize <= sites;
            rule(fits, "cohort.quorum", "1 to the number of sites", quorum)?;
        }
    }
    for (field, seconds) in [
        (
            "cohort.round_deadline_seconds",
            cohort.round_deadline_seconds,
        ),
        ("cohort.idle_timeout_seconds", cohort.idle_timeout_seconds),
    ] {
        rule(
            (1..=MAX_SECONDS).contains(&seconds),
            field,
            "1 second to 1 year",
            seconds,
        )?;
    }
    let gather = cohort.gather_seconds;
    rule(
        gather <= MAX_SECONDS,
        "cohort.gather_seconds",
        "at most 1 year",
        gather,
    )
}

fn check_bounds(config: &Config) -> Result<(), PlanError> {
    for (field, bound) in [
        ("limits.max_update_norm", config.limits.max_update_norm),
        ("aggregation.clip_norm", config.aggregation.clip_norm),
    ] {
        if let Some(bound) = bound {
            rule(
                bound.is_finite() && bound > 0.0,
                field,
                "finite and above 0",
                bound,
            )?;
        }
    }
    let examples = config.limits.max_examples;
    rule(
        (1..=1 << 53).contains(&examples),
        "limits.max_examples",
        "1 to 2^53",
        examples,
    )
}

fn check_evaluation(config: &Config) -> Result<(), PlanError> {
    let Some(evaluation) = &config.evaluation else {
        return Ok(());
    };
    let every = evaluation.every;
    rule(every >= 1, "evaluation.every", "at least 1", every)?;
    let tasks = evaluation.tasks.len();
    rule(
        (1..=16).contains(&tasks),
        "evaluation.tasks",
        "1 to 16 tasks",
        tasks,
    )?;
    let mut seen = BTreeSet::new();
    for task in &evaluation.tasks {
        let fits = !task.is_empty() && task.len() <= 64 && !task.chars().any(char::is_control);
        rule(
            fits,
            "evaluation.tasks",
            "1 to 64 bytes each, no control characters",
            task,
        )?;
        rule(
            seen.insert(task),
            "evaluation.tasks",
            "each task once",
            task,
        )?;
    }
    let bins = evaluation.histogram_bins;
    rule(
        (2..=1024).contains(&bins),
        "evaluation.histogram_bins",
        "2 to 1024",
        bins,
    )?;
    let seconds = evaluation.deadline_seconds;
    let fits = (1..=MAX_SECONDS).contains(&seconds);
    rule(
        fits,
        "evaluation.deadline_seconds",
        "1 second to 1 year",
        seconds,
    )
}

fn check_training(config: &Config) -> Result<(), PlanError> {
    let Some(local) = &config.local else {
        return rule(
            false,
            "local",
            "present unless objective is \"evaluate\"",
            "none",
        );
    };
    let batch = local.batch_size;
    rule(
        (1..=1 << 20).contains(&batch),
        "local.batch_size",
        "1 to 1048576",
        batch,
    )?;
    match (local.steps, local.epochs) {
        (Some(steps), None) => {
            rule(
                (1..=1 << 24).contains(&steps),
                "local.steps",
                "1 to 16777216",
                steps,
            )?;
            let found = local.nominal_steps.unwrap_or_default();
            rule(
                local.nominal_steps.is_none(),
                "local.nominal_steps",
                "only with epochs",
                found,
            )?;
        }
        (None, Some(epochs)) => {
            rule(
                (1..=10_000).contains(&epochs),
                "local.epochs",
                "1 to 10000",
                epochs,
            )?;
            let nominal = local.nominal_steps.unwrap_or_default();
            let fits = (1..=1 << 24).contains(&nominal);
            rule(
                fits,
                "local.nominal_steps",
                "1 to 16777216 with epochs",
                nominal,
            )?;
        }
        _ => rule(
            false,
            "local.steps",
            "exactly one of steps and epochs",
            "both or none",
        )?,
    }
    let Some(schedule) = &config.schedule else {
        return rule(
            false,
            "schedule",
            "present unless objective is \"evaluate\"",
            "none",
        );
    };
    let rate = schedule.learning_rate;
    let fits = rate.peak.is_finite() && rate.peak > 0.0 && (0.0..=rate.peak).contains(&rate.end);
    rule(
        fits,
        "schedule.learning_rate",
        "peak above 0, end from 0 to peak",
        rate.peak,
    )?;
    let warmup = rate.warmup_steps;
    let fits = warmup < config.total_steps();
    rule(
        fits,
        "schedule.learning_rate.warmup_steps",
        "below the run's steps",
        warmup,
    )?;
    in_range("schedule.weight_decay", schedule.weight_decay, "0 to 1")?;
    check_dino(config)
}

fn check_dino(config: &Config) -> Result<(), PlanError> {
    match (&config.dino, config.objective) {
        (Some(dino), Objective::Dino) => {
            in_range("dino.teacher_momentum", dino.teacher_momentum, "0 to 1")?;
            for (field, value) in [
                (
                    "dino.teacher_temperature_start",
                    dino.teacher_temperature_start,
                ),
                ("dino.teacher_temperature_end", dino.teacher_temperature_end),
            ] {
                rule(
                    value.is_finite() && value > 0.0,
                    field,
                    "finite and above 0",
                    value,
                )?;
            }
            rule(
                (0.0..=1.0).contains(&dino.resync),
                "dino.resync",
                "0 to 1",
                dino.resync,
            )
        }
        (None, Objective::Dino) => rule(false, "dino", "present for objective \"dino\"", "none"),
        (Some(_), _) => rule(false, "dino", "only for objective \"dino\"", "present"),
        (None, _) => Ok(()),
    }
}

fn in_range(field: &'static str, schedule: Cosine, text: &'static str) -> Result<(), PlanError> {
    for value in [schedule.start, schedule.end] {
        rule((0.0..=1.0).contains(&value), field, text, value)?;
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn rule(
    holds: bool,
    field: &'static str,
    rule: &'static str,
    found: impl ToString,
) -> Result<(), PlanError> {
    if holds {
        Ok(())
    } else {
        Err(PlanError::Rule {
            field,
            rule,
            found: found.to_string(),
        })
    }
}

const MAX_ROUNDS: u32 = 100_000;
const MAX_LIST: usize = 256;
const MAX_SECONDS: u64 = 366 * 24 * 60 * 60;
