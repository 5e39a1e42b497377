//! The plan of a study: which command makes what, from what.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ReproduceError;
use super::config::{Estimate, StudyConfig};
use super::planner::{Planner, Start};
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
    /// Tables of cohorts that it reads.
    pub tables: Vec<PathBuf>,
    /// Written beside the results for the report; none where there is nothing to report.
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
        let (home, first) = (&config.sites[0], &config.objectives[0]);
        // Suppl. Figs. 3 and 4: "All models were pre-trained ... with MAE".
        let mae = config.objectives.iter().find(|name| *name == "mae");
        let ablated = mae.unwrap_or(first);
        let mut steps: Vec<Step> = config
            .sites
            .iter()
            .filter_map(|site| planner.split(site))
            .collect();
        let starts: Vec<Start<'_>> = config
            .objectives
            .iter()
            .flat_map(|objective| {
                config.fractions.iter().map(move |&fraction| Start {
                    objective,
                    fraction,
                    ablation: None,
                })
            })
            .chain(config.ablations.iter().map(|ablation| Start {
                objective: ablated,
                fraction: 1.0,
                ablation: Some(ablation),
            }))
            .collect();
        let whole = |objective| Start {
            objective,
            fraction: 1.0,
            ablation: None,
        };
        steps.extend(starts.iter().map(|start| planner.pretrain(start)));
        steps.extend(starts.iter().map(|start| planner.finetune(home, start)));
        for site in &config.sites[1..] {
            steps.push(planner.finetune(site, &whole(first)));
        }
        for site in &config.sites {
            steps.push(planner.scratch(site));
        }
        if config.resnet {
            steps.extend(config.sites.iter().map(|site| planner.resnet(site)));
        }
        for probe in &config.probes {
            for objective in &config.objectives {
                steps.push(planner.probe(home, &whole(objective), probe));
            }
        }
        if config.few_shot {
            let few_shot = |site| planner.few_shot(site, &whole(first));
            steps.extend(config.sites.iter().map(few_shot));
        }
        steps.push(planner.cohort(home, &whole(first)));
        steps.push(planner.report(&steps));
        Ok(Self { steps })
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Digest of each step: of the program's version, its arguments, the tables of the cohorts it
    /// reads and the digests of the steps it needs.
    pub fn digests(&self) -> BTreeMap<&str, blake3::Hash> {
        let mut digests: BTreeMap<&str, blake3::Hash> = BTreeMap::new();
        for step in &self.steps {
            let mut hasher = blake3::Hasher::new();
            hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
            for argument in &step.arguments {
                hasher.update(&(argument.len() as u64).to_le_bytes());
                hasher.update(argument.as_bytes());
            }
            for table in &step.tables {
                // A table that is not there yet is another table.
                let bytes = std::fs::read(table).unwrap_or_default();
                hasher.update(blake3::hash(&bytes).as_bytes());
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

impl Step {
    /// Expected wall-clock seconds, where somebody measured or published them.
    pub fn expected_seconds(&self) -> Option<f64> {
        let estimate = self.estimate.as_ref()?;
        let info = self.info.as_ref();
        let share = info.and_then(|info| info.pretraining_fraction);
        let share = if estimate.by_share { share } else { None };
        Some(estimate.seconds? * share.unwrap_or(1.0))
    }

    /// Whether it stands on all of the pre-training data.
    pub(super) fn is_whole(&self) -> bool {
        let share = self
            .info
            .as_ref()
            .and_then(|info| info.pretraining_fraction);
        share.is_none_or(|share| share >= 1.0)
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
    }
    for (key, names) in [
        (
            "sites",
            config.sites.iter().map(|site| &site.name).collect(),
        ),
        (
            "ablations",
            config
                .ablations
                .iter()
                .map(|one| &one.name)
                .collect::<Vec<_>>(),
        ),
    ] {
        for (place, name) in names.iter().enumerate() {
            if name.is_empty() || name.contains(|c: char| !c.is_alphanumeric() && c != '-') {
                return wrong(
                    key,
                    format!("name {name:?}: expected letters, digits and dashes"),
                );
            }
            if names[..place].contains(name) {
                return wrong(key, format!("name {name:?}: expected once, found twice"));
            }
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
    if let Some(site) = config.sites.iter().find(|site| site.draws == Some(0)) {
        return wrong(
            "sites",
            format!("{}: draws: expected at least 1, found 0", site.name),
        );
    }
    if !config.fractions.contains(&1.0) {
        return wrong("fractions", "expected 1.0 among them".to_owned());
    }
    Ok(())
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
        let steps = study.steps();
        let commands = |name: &str| steps.iter().filter(|s| s.arguments[0] == name).count();
        let named = |start: &str| steps.iter().filter(|s| s.name.starts_with(start)).count();
        // Two objectives at three shares and two ablations; fine-tuned at home from each, abroad
        // from the first.
        assert_eq!(commands("pretrain"), 6 + 2);
        assert_eq!(named("finetune-"), 8 + 3);
        // The transformer and the ResNet from scratch, at each site.
        assert_eq!((commands("split"), commands("sweep")), (4, 4 + 4));
        assert_eq!((named("resnet-"), named("probe-")), (4, 4));
        assert_eq!((commands("few-shot"), commands("embed-cohort")), (4, 1));
        // As published: ablations by MAE, and small CQ500 draws fewer scans per epoch.
        assert_eq!((named("MAE-one-channel"), named("MAE-patch-16")), (1, 1));
        let draws = |step: &&Step| step.arguments.contains(&"finetune.draws=500".to_owned());
        let fewer: Vec<&str> = steps.iter().filter(draws).map(|step| &*step.name).collect();
        assert_eq!(
            fewer,
            ["finetune-DINO-cq500", "scratch-cq500", "resnet-cq500"]
        );
        let report = steps.last().unwrap();
        assert_eq!(report.arguments[1], "{out}/finetune-DINO-langone");
        assert!(!report.needs.iter().any(|need| need.starts_with("split-")));
        // A share of the data takes that share of the published week.
        let days = |name: &str| {
            let step = steps.iter().find(|step| step.name == name).unwrap();
            step.expected_seconds().unwrap() / 86400.0
        };
        assert!((days("DINO") - 7.0).abs() < 1e-9 && (days("DINO-10") - 0.7).abs() < 1e-9);
    }

    #[test]
    fn official_splits_are_checked_and_others_are_made() {
        let study = Study::new(&builtin("paper")).unwrap();
        let words = |name: &str| {
            let step = study.steps().iter().find(|step| step.name == name);
            step.unwrap().arguments.join(" ")
        };
        assert_eq!(
            words("split-cq500"),
            "split --check cohorts/cq500/split.csv"
        );
        let made = words("split-langone");
        assert!(made.ends_with("--out cohorts/langone/split.csv"), "{made}");
    }

    #[test]
    fn changed_labels_change_what_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = builtin("paper");
        let cohort = folder.path().join("cq500");
        config.sites[3].cohort = Some(cohort.display().to_string());
        let study = Study::new(&config).unwrap();
        let before = study.digests();
        std::fs::create_dir(&cohort).unwrap();
        std::fs::write(cohort.join("labels.csv"), "scan,patient,ICH\n").unwrap();
        let after = study.digests();
        let changed = |step: &str| before[step] != after[step];
        // Fine-tuned there, or tested there.
        for step in [
            "finetune-DINO-cq500",
            "finetune-DINO-langone",
            "cohort",
            "report",
        ] {
            assert!(changed(step), "{step}");
        }
        for step in ["DINO", "few-shot-DINO-langone", "split-langone"] {
            assert!(!changed(step), "{step}");
        }
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
        assert!(message(&|c| c.sites[0].draws = Some(0)).contains("draws"));
        assert!(message(&|c| c.sites[0].name = c.sites[1].name.clone()).contains("twice"));
        assert!(StudyConfig::parse("sweeep = true").is_err());
    }
}
