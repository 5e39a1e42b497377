//! What may leave the site: the hospital's own rules, whatever the coordinator asks for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::Digest;
use protocol::plan::{Objective, Plan};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::approval::{Approval, Approvals};
use super::session::Ready;
use super::trainer::Report;

/// A site's policy, from `policy.toml`. Whatever it does not allow stays in.
///
/// The default allows nothing by itself: each plan has to be approved by digest
/// (`fmct-site approve-plan`), and the limits hold for approved plans too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Objectives that need no approval plan by plan.
    pub objectives: Vec<Objective>,
    /// Plans allowed by digest, beside those approved on the command line.
    pub plans: Vec<Digest>,
    /// Most rounds of a plan.
    pub max_rounds: u32,
    /// Fewest training sites whose updates may make a model: a mean over few says much about each.
    pub min_sites: u32,
    /// Fewest examples an update may rest on: the gradient of one scan says much about it.
    pub min_examples: u64,
    /// Largest Euclidean norm of an update's change of weights, as it is sent.
    pub max_update_norm: f64,
    /// Which metrics leave.
    pub metrics: Metrics,
}

/// Which metrics leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The area under the curve of a task.
    pub auc: bool,
    /// Score histograms with the counts of both classes. Without them nothing of a task leaves.
    pub histograms: bool,
    /// A task with fewer patients than this in either class stays in.
    pub min_cell: u32,
}

/// Why a policy file was not understood.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// It could not be read.
    #[error("policy: cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It breaks a rule.
    #[error("policy: {path}: {field}: {rule}, found {found}")]
    Rule {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        found: String,
    },
    /// It is not the schema's TOML.
    #[error("policy: {path} is not the schema's TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            objectives: Vec::new(),
            plans: Vec::new(),
            max_rounds: 200,
            min_sites: 3,
            min_examples: 16,
            max_update_norm: 1000.0,
            metrics: Metrics::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            auc: true,
            histograms: true,
            min_cell: 5,
        }
    }
}

impl Policy {
    /// Reads `policy.toml` of a site's directory; without one the default policy holds.
    ///
    /// # Errors
    /// If the file cannot be read, is not the schema's TOML (an unknown field is refused), or
    /// breaks a rule.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(PolicyError::Read { path, source }),
        };
        let policy: Self = match toml::from_str(&text) {
            Ok(policy) => policy,
            Err(source) => return Err(PolicyError::Syntax { path, source }),
        };
        let norm = policy.max_update_norm;
        if !(norm.is_finite() && norm > 0.0) {
            let (field, rule) = ("max_update_norm", "finite and above 0");
            return Err(PolicyError::Rule {
                path,
                field,
                rule,
                found: norm.to_string(),
            });
        }
        Ok(policy)
    }

    /// Whether the limits of this policy hold for a plan, approved or not.
    fn within_limits(&self, plan: &Plan) -> Result<(), String> {
        let config = plan.config();
        let (rounds, most) = (config.rounds, self.max_rounds);
        if rounds > most {
            return Err(format!(
                "plan has {rounds} rounds, policy max_rounds is {most}"
            ));
        }
        let (sites, fewest) = (config.fewest_in_a_model(), self.min_sites as usize);
        if config.objective != Objective::Evaluate && sites < fewest {
            return Err(format!(
                "plan makes models of {sites} training sites, policy min_sites is {fewest}"
            ));
        }
        Ok(())
    }

    /// Whether an update may leave.
    fn lets_out(&self, update: &Ready) -> Result<(), String> {
        let (examples, fewest) = (update.examples, self.min_examples);
        if examples < fewest {
            return Err(format!(
                "update rests on {examples} examples, min_examples is {fewest}"
            ));
        }
        let (norm, most) = (update.norm.unwrap_or(f64::NAN), self.max_update_norm);
        // A norm that is no number is within no bound.
        if norm.is_nan() || norm > most {
            return Err(format!(
                "update norm is {norm:.3e}, max_update_norm is {most:.3e}"
            ));
        }
        Ok(())
    }

    /// What may leave of a report.
    #[must_use]
    pub fn suppress(&self, report: Report) -> Report {
        let Metrics {
            auc,
            histograms,
            min_cell,
        } = self.metrics;
        let count = |bins: &[u32]| bins.iter().map(|&n| u64::from(n)).sum::<u64>();
        let mut tasks = report.tasks;
        tasks.retain(|task| {
            let (positives, negatives) = (count(&task.positive), count(&task.negative));
            let leaves = histograms && positives.min(negatives) >= u64::from(min_cell);
            if !leaves {
                tracing::info!(task = task.task, min_cell, histograms, "metrics stay in");
            }
            leaves
        });
        for task in &mut tasks {
            task.auc = task.auc.filter(|_| auc);
        }
        Report { tasks }
    }
}

/// Decides on plans by a policy and the plans approved one by one.
#[derive(Clone, Debug)]
pub struct PolicyApproval {
    /// The policy.
    pub policy: Policy,
    /// The plans approved one by one.
    pub approvals: Approvals,
}

impl Approval for PolicyApproval {
    fn allows(&self, plan: &Plan) -> Result<(), String> {
        self.policy.within_limits(plan)?;
        let by_objective = self.policy.objectives.contains(&plan.config().objective);
        if by_objective || self.policy.plans.contains(&plan.digest()) {
            return Ok(());
        }
        self.approvals.allows(plan)
    }

    fn lets_out(&self, update: &Ready) -> Result<(), String> {
        self.policy.lets_out(update)
    }

    fn suppress(&self, report: Report) -> Report {
        self.policy.suppress(report)
    }
}

const FILE: &str = "policy.toml";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::TaskReport;

    fn text(objective: &str, sites: &str, rounds: u32) -> Vec<u8> {
        let text = format!(
            r#"
            name = "test"
            objective = "{objective}"
            model = "vit"
            preset = "tiny"
            initial = "{}"
            rounds = {rounds}
            [cohort]
            rule = "full"
            sites = {sites}
            [local]
            steps = 2
            batch_size = 2
            [schedule]
            learning_rate = {{ peak = 1e-3 }}
            "#,
            "0".repeat(64)
        );
        text.into_bytes()
    }

    fn plan(objective: &str, sites: &str, rounds: u32) -> Plan {
        Plan::parse(&text(objective, sites, rounds)).unwrap()
    }

    fn decide(policy: Policy, plan: &Plan) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let approvals = Approvals::load(directory.path()).unwrap();
        PolicyApproval { policy, approvals }.allows(plan)
    }

    #[test]
    fn without_a_file_nothing_is_allowed_that_nobody_approved() {
        let directory = tempfile::tempdir().unwrap();
        let policy = Policy::load(directory.path()).unwrap();
        assert_eq!(policy, Policy::default());
        let refusal = decide(policy, &plan("mae", r#"["a", "b", "c"]"#, 3)).unwrap_err();
        assert!(refusal.contains("approve-plan"), "{refusal}");
    }

    #[test]
    fn an_allowed_objective_needs_no_approval_and_the_limits_still_hold() {
        let policy = Policy {
            objectives: vec![Objective::Mae],
            ..Policy::default()
        };
        let three = r#"["a", "b", "c"]"#;
        assert_eq!(decide(policy.clone(), &plan("mae", three, 200)), Ok(()));
        assert!(decide(policy.clone(), &plan("probe", three, 3)).is_err());
        let refusal = decide(policy.clone(), &plan("mae", three, 201)).unwrap_err();
        assert!(refusal.contains("201 rounds"), "{refusal}");
        let refusal = decide(policy, &plan("mae", r#"["a", "b"]"#, 3)).unwrap_err();
        assert!(refusal.contains("2 training sites"), "{refusal}");
    }

    #[test]
    fn sites_are_counted_by_the_models_they_make_not_by_their_names() {
        let policy = |min_sites| Policy {
            objectives: vec![Objective::Mae],
            min_sites,
            ..Policy::default()
        };
        let with = |cohort: &str, strategy: &str| {
            let text = String::from_utf8(text("mae", r#"["a", "b", "c", "d", "e"]"#, 3)).unwrap();
            let text = text.replace("rule = \"full\"", cohort) + strategy;
            Plan::parse(text.as_bytes()).unwrap()
        };
        let full = with("rule = \"full\"", "");
        assert_eq!(decide(policy(5), &full), Ok(()));
        let quorum = with("rule = \"quorum\"\nquorum = 2", "");
        assert_eq!(decide(policy(2), &quorum), Ok(()));
        assert!(decide(policy(3), &quorum).is_err());
        let krum = with(
            "rule = \"full\"",
            "[strategy]\nname = \"krum\"\nmalicious = 1\n",
        );
        let refusal = decide(policy(2), &krum).unwrap_err();
        assert!(refusal.contains("models of 1 training sites"), "{refusal}");
    }

    #[test]
    fn an_update_of_too_few_examples_or_too_large_or_of_no_norm_stays_in() {
        let policy = Policy {
            min_examples: 4,
            max_update_norm: 2.0,
            ..Policy::default()
        };
        let update = |examples, norm| Ready {
            blob: Digest::of(b"update"),
            bytes: 6,
            examples,
            steps: 1,
            norm,
        };
        assert_eq!(policy.lets_out(&update(4, Some(2.0))), Ok(()));
        let refusal = policy.lets_out(&update(3, Some(1.0))).unwrap_err();
        assert!(refusal.contains("3 examples"), "{refusal}");
        let refusal = policy.lets_out(&update(4, Some(2.1))).unwrap_err();
        assert!(refusal.contains("max_update_norm"), "{refusal}");
        assert!(policy.lets_out(&update(4, Some(f64::NAN))).is_err());
        assert!(policy.lets_out(&update(4, None)).is_err());
    }

    #[test]
    fn a_plan_allowed_by_digest_is_held_to_the_limits_too() {
        let (few, many) = (
            plan("mae", r#"["a", "b"]"#, 3),
            plan("mae", r#"["a", "b", "c"]"#, 3),
        );
        let policy = Policy {
            plans: vec![few.digest(), many.digest()],
            ..Policy::default()
        };
        assert_eq!(decide(policy.clone(), &many), Ok(()));
        assert!(decide(policy, &few).is_err());
    }

    #[test]
    fn a_task_with_a_small_class_stays_in_and_an_area_that_may_not_leave_is_blank() {
        let task = |name: &str, positives, negatives| TaskReport {
            task: name.to_owned(),
            positive: vec![positives, 0],
            negative: vec![0, negatives],
            auc: Some(0.5),
        };
        let report = Report {
            tasks: vec![task("edh", 4, 90), task("ich", 5, 5), task("iph", 9, 4)],
        };
        let left = Policy::default().suppress(report.clone());
        assert_eq!(left.tasks, [task("ich", 5, 5)]);
        let metrics = Metrics {
            auc: false,
            ..Metrics::default()
        };
        let left = Policy {
            metrics,
            ..Policy::default()
        }
        .suppress(report.clone());
        assert_eq!(left.tasks[0].auc, None);
        let metrics = Metrics {
            histograms: false,
            ..Metrics::default()
        };
        assert!(
            Policy {
                metrics,
                ..Policy::default()
            }
            .suppress(report)
            .tasks
            .is_empty()
        );
    }

    #[test]
    fn an_unknown_field_and_an_impossible_norm_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        fs::write(&file, "max_round = 3\n").unwrap();
        assert!(matches!(
            Policy::load(directory.path()),
            Err(PolicyError::Syntax { .. })
        ));
        fs::write(&file, "max_update_norm = 0.0\n").unwrap();
        let error = Policy::load(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("max_update_norm: finite and above 0"),
            "{error}"
        );
    }
}
