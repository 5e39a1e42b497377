//! The plan of a study: which command makes what, from what.

use std::collections::BTreeMap;

use super::ReproduceError;
use super::config::{Cohort, Estimate, StudyConfig};
use crate::report::RunInfo;

/// A checked study: steps in an order in which each finds what it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    steps: Vec<Step>,
}

/// One command.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name, and folder below the study's.
    pub name: String,
    /// Arguments of `fmct-site`; `{out}` stands for the study's folder.
    pub arguments: Vec<String>,
    /// Names of the steps whose results it reads.
    pub needs: Vec<String>,
    /// Written beside the results for the report; none for pre-training weights' report itself.
    pub info: Option<RunInfo>,
    /// Expected cost.
    pub estimate: Option<Estimate>,
}

impl Study {
    /// Plans a study.
    ///
    /// # Errors
    /// No sites, an unknown objective or probe, a fraction outside 0 to 1, or no whole.
    pub fn new(config: &StudyConfig) -> Result<Self, ReproduceError> {
        check(config)?;
        let planner = Planner { config };
        let mut steps = Vec::new();
        for objective in &config.objectives {
            for &fraction in &config.fractions {
                steps.push(planner.pretrain(objective, fraction));
            }
        }
        let home = &config.sites[0];
        for objective in &config.objectives {
            for &fraction in &config.fractions {
                steps.push(planner.finetune(home, Some((objective, fraction))));
            }
        }
        for site in &config.sites[1..] {
            steps.push(planner.finetune(site, Some((&config.objectives[0], 1.0))));
        }
        for site in &config.sites {
            steps.push(planner.finetune(site, None));
        }
        for probe in &config.probes {
            for objective in &config.objectives {
                steps.push(planner.probe(home, objective, probe));
            }
        }
        if config.few_shot {
            steps.push(planner.few_shot(home));
        }
        steps.push(planner.report(&steps));
        Ok(Self { steps })
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Digest of each step: of the program's version, its arguments and the digests of what it needs.
    pub fn digests(&self) -> BTreeMap<&str, blake3::Hash> {
        let mut digests: BTreeMap<&str, blake3::Hash> = BTreeMap::new();
        for step in &self.steps {
            let mut hasher = blake3::Hasher::new();
            hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
            for argument in &step.arguments {
                hasher.update(&(argument.len() as u64).to_le_bytes());
                hasher.update(argument.as_bytes());
            }
            for need in &step.needs {
                if let Some(digest) = digests.get(&**need) {
                    hasher.update(digest.as_bytes());
                }
            }
            digests.insert(&step.name, hasher.finalize());
        }
        digests
    }
}

fn check(config: &StudyConfig) -> Result<(), ReproduceError> {
    let wrong = |key, rule: String| Err(ReproduceError::Setting { key, rule });
    if config.sites.is_empty() {
        return wrong("sites", "expected at least one".to_owned());
    }
    for site in &config.sites {
        if site.phantoms.is_some() == site.cohort.is_some() {
            let rule = format!("{}: expected one of phantoms and cohort", site.name);
            return wrong("sites", rule);
        }
        if site.name.is_empty() || site.name.contains(['/', '\\', '.']) {
            return wrong(
                "sites",
                format!("name {:?}: expected letters and digits", site.name),
            );
        }
    }
    if config.objectives.is_empty() {
        return wrong("objectives", "expected at least one".to_owned());
    }
    let unknown = |known: &[&str], names: &[String]| {
        names
            .iter()
            .find(|name| !known.contains(&&***name))
            .cloned()
    };
    if let Some(found) = unknown(&["dino", "mae"], &config.objectives) {
        return wrong(
            "objectives",
            format!("expected dino or mae, found {found:?}"),
        );
    }
    if let Some(found) = unknown(&["linear", "attentive"], &config.probes) {
        return wrong(
            "probes",
            format!("expected linear or attentive, found {found:?}"),
        );
    }
    if let Some(found) = config.fractions.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
        return wrong(
            "fractions",
            format!("expected above 0 and at most 1, found {found}"),
        );
    }
    if !config.fractions.contains(&1.0) {
        return wrong("fractions", "expected 1.0 among them".to_owned());
    }
    Ok(())
}

struct Planner<'a> {
    config: &'a StudyConfig,
}

impl Planner<'_> {
    fn pretrain(&self, objective: &str, fraction: f64) -> Step {
        let mut arguments = words(&["pretrain", "--objective", objective, "--fraction"]);
        arguments.push(format!("{fraction:?}"));
        arguments.extend(self.shared(&self.config.sites[0]));
        let info = RunInfo {
            objective: Some(objective.to_owned()),
            pretraining_fraction: Some(fraction),
            ..RunInfo::default()
        };
        self.step(
            pretrained(objective, fraction),
            "pretrain",
            arguments,
            Vec::new(),
            info,
        )
    }

    /// From a pre-trained model, or from scratch, which is swept where the study says so.
    fn finetune(&self, site: &Cohort, start: Option<(&str, f64)>) -> Step {
        let (command, kind) = match start {
            None if self.config.sweep => ("sweep", "sweep"),
            _ => ("finetune", "finetune"),
        };
        let mut arguments = words(&[command, "--from"]);
        let mut needs = Vec::new();
        let (name, info) = match start {
            Some((objective, fraction)) => {
                let weights = pretrained(objective, fraction);
                arguments.push(format!("{{out}}/{weights}"));
                needs.push(weights.clone());
                let info = RunInfo {
                    objective: Some(objective.to_owned()),
                    pretraining_fraction: Some(fraction),
                    ..RunInfo::default()
                };
                (format!("finetune-{weights}-{}", site.name), info)
            }
            None => {
                arguments.push("scratch".to_owned());
                (format!("scratch-{}", site.name), RunInfo::default())
            }
        };
        arguments.extend(self.shared(site));
        arguments.extend(self.externals(site));
        let info = RunInfo {
            protocol: Some("finetune".to_owned()),
            ..info
        };
        self.step(name, kind, arguments, needs, info)
    }

    fn probe(&self, site: &Cohort, objective: &str, probe: &str) -> Step {
        let weights = pretrained(objective, 1.0);
        let mut arguments = words(&["probe", "--kind", probe, "--from"]);
        arguments.push(format!("{{out}}/{weights}"));
        arguments.extend(self.shared(site));
        arguments.extend(self.externals(site));
        let info = RunInfo {
            objective: Some(objective.to_owned()),
            protocol: Some(format!("{probe}_probe")),
            ..RunInfo::default()
        };
        let name = format!("probe-{probe}-{weights}-{}", site.name);
        self.step(name, "probe", arguments, vec![weights], info)
    }

    fn few_shot(&self, site: &Cohort) -> Step {
        let weights = pretrained(&self.config.objectives[0], 1.0);
        let mut arguments = words(&["few-shot", "--from"]);
        arguments.push(format!("{{out}}/{weights}"));
        arguments.extend(self.shared(site));
        let name = format!("few-shot-{weights}-{}", site.name);
        self.step(
            name,
            "few_shot",
            arguments,
            vec![weights],
            RunInfo::default(),
        )
    }

    /// The model of interest first: the first objective's, fine-tuned on all data at home.
    fn report(&self, steps: &[Step]) -> Step {
        let first = format!(
            "finetune-{}-{}",
            pretrained(&self.config.objectives[0], 1.0),
            self.config.sites[0].name
        );
        let mut needs: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        needs.sort_by_key(|name| *name != first);
        let mut arguments = words(&["report"]);
        arguments.extend(needs.iter().map(|name| format!("{{out}}/{name}")));
        arguments.extend(["--seed".to_owned(), self.config.seed.to_string()]);
        let estimate = self.config.estimates.get("report").cloned();
        Step {
            name: "report".to_owned(),
            arguments,
            needs,
            info: None,
            estimate,
        }
    }

    /// Preset, settings, seed and scans.
    fn shared(&self, site: &Cohort) -> Vec<String> {
        let mut arguments = words(&["--preset", &self.config.training, "--seed"]);
        arguments.push(self.config.seed.to_string());
        for setting in &self.config.settings {
            arguments.extend(words(&["--set", setting]));
        }
        arguments.extend(source("--", site));
        arguments
    }

    fn externals(&self, site: &Cohort) -> Vec<String> {
        let others = self
            .config
            .sites
            .iter()
            .filter(|other| other.name != site.name);
        others
            .flat_map(|other| source("--external-", other))
            .collect()
    }

    fn step(
        &self,
        name: String,
        kind: &str,
        arguments: Vec<String>,
        needs: Vec<String>,
        info: RunInfo,
    ) -> Step {
        let info = Some(RunInfo {
            name: name.clone(),
            seed: Some(self.config.seed),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..info
        });
        let objective = arguments.get(2).filter(|_| kind == "pretrain");
        let key = objective.map_or_else(|| kind.to_owned(), |name| format!("{kind}_{name}"));
        let estimate = self.config.estimates.get(&key).cloned();
        Step {
            name,
            arguments,
            needs,
            info,
            estimate,
        }
    }
}

/// Folder of a pre-trained model, which is also its name in figures.
fn pretrained(objective: &str, fraction: f64) -> String {
    let name = if objective == "dino" { "DINO" } else { "MAE" };
    if fraction == 1.0 {
        name.to_owned()
    } else {
        format!("{name}-{}", (fraction * 100.0).round())
    }
}

fn source(prefix: &str, site: &Cohort) -> Vec<String> {
    let named = |flag: &str, value: &String| vec![format!("{prefix}{flag}"), value.clone()];
    match (&site.phantoms, &site.cohort) {
        (Some(phantoms), _) => named("phantoms", phantoms),
        (None, Some(cohort)) => named("cohort", cohort),
        (None, None) => Vec::new(),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builtin(name: &str) -> StudyConfig {
        StudyConfig::parse(StudyConfig::builtin(name).unwrap()).unwrap()
    }

    #[test]
    fn each_step_finds_what_it_needs_before_it() {
        for name in ["phantom-tiny", "paper"] {
            let study = Study::new(&builtin(name)).unwrap();
            for (place, step) in study.steps().iter().enumerate() {
                for need in &step.needs {
                    assert!(
                        study.steps()[..place]
                            .iter()
                            .any(|before| before.name == *need)
                    );
                }
            }
            assert_eq!(study.steps().last().unwrap().name, "report");
        }
    }

    #[test]
    fn the_published_study_is_complete() {
        let study = Study::new(&builtin("paper")).unwrap();
        let count = |start: &str| {
            study
                .steps()
                .iter()
                .filter(|s| s.name.starts_with(start))
                .count()
        };
        // Two objectives at three shares; fine-tuned at home from each, abroad from the first.
        assert_eq!(
            study
                .steps()
                .iter()
                .filter(|s| s.arguments[0] == "pretrain")
                .count(),
            6
        );
        assert_eq!(count("finetune-"), 6 + 3);
        assert_eq!(
            study
                .steps()
                .iter()
                .filter(|s| s.arguments[0] == "sweep")
                .count(),
            4
        );
        assert_eq!(
            (count("probe-"), count("few-shot-"), count("report")),
            (4, 1, 1)
        );
        assert_eq!(
            study.steps().last().unwrap().arguments[1],
            "{out}/finetune-DINO-langone"
        );
    }

    #[test]
    fn a_changed_setting_changes_what_depends_on_it() {
        let mut config = builtin("phantom-tiny");
        let before = Study::new(&config).unwrap();
        config.seed += 1;
        let after = Study::new(&config).unwrap();
        for (step, digest) in before.digests() {
            assert_ne!(digest, after.digests()[step], "{step}");
        }
        assert_eq!(
            before.digests(),
            Study::new(&builtin("phantom-tiny")).unwrap().digests()
        );
    }

    #[test]
    fn impossible_studies_are_refused() {
        let message = |change: &dyn Fn(&mut StudyConfig)| {
            let mut config = builtin("phantom-tiny");
            change(&mut config);
            Study::new(&config).unwrap_err().to_string()
        };
        assert!(message(&|c| c.sites.clear()).contains("sites"));
        assert!(message(&|c| c.fractions = vec![0.5]).contains("1.0 among them"));
        assert!(message(&|c| c.fractions = vec![2.0, 1.0]).contains("found 2"));
        assert!(message(&|c| c.objectives = vec!["jepa".to_owned()]).contains("jepa"));
        assert!(message(&|c| c.probes = vec!["knn".to_owned()]).contains("knn"));
        assert!(message(&|c| c.sites[0].cohort = Some("x".to_owned())).contains("one of"));
        assert!(message(&|c| c.sites[0].name = "../x".to_owned()).contains("letters"));
        assert!(StudyConfig::parse("sweeep = true").is_err());
    }
}
