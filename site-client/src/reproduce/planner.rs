//! Which command makes each step of a study.

use std::path::Path;

use super::config::{Ablation, Cohort, StudyConfig};
use super::study::Step;
use crate::report::RunInfo;

/// Where a training on labels starts.
pub(super) struct Start<'a> {
    pub(super) objective: &'a str,
    pub(super) fraction: f64,
    pub(super) ablation: Option<&'a Ablation>,
}

impl Start<'_> {
    /// Folder of the pre-trained model, which is also its name in figures.
    fn name(&self) -> String {
        let objective = if self.objective == "dino" {
            "DINO"
        } else {
            "MAE"
        };
        match self.ablation {
            Some(ablation) => format!("{objective}-{}", ablation.name),
            None if self.fraction == 1.0 => objective.to_owned(),
            None => format!("{objective}-{}", (self.fraction * 100.0).round()),
        }
    }

    fn info(&self) -> RunInfo {
        RunInfo {
            objective: Some(self.objective.to_owned()),
            pretraining_fraction: Some(self.fraction),
            ..RunInfo::default()
        }
    }
}

pub(super) struct Planner<'a> {
    pub(super) config: &'a StudyConfig,
}

impl Planner<'_> {
    /// Divides a prepared cohort by patient, or checks the division it came with.
    pub(super) fn split(&self, site: &Cohort) -> Option<Step> {
        let folder = site.cohort.as_deref()?;
        let (table, split) = (
            format!("{folder}/labels.csv"),
            format!("{folder}/split.csv"),
        );
        let arguments = match site.official_split {
            true => words(&["split", "--check", &split]),
            false => words(&["split", "--table", &table, "--out", &split]),
        };
        Some(Step {
            name: format!("split-{}", site.name),
            arguments,
            needs: Vec::new(),
            tables: vec![if site.official_split { split } else { table }.into()],
            info: None,
            estimate: self.config.estimates.get("split").cloned(),
        })
    }

    pub(super) fn pretrain(&self, start: &Start<'_>) -> Step {
        let home = &self.config.sites[0];
        let fraction = format!("{:?}", start.fraction);
        let objective = start.objective;
        let command = [
            "pretrain",
            "--objective",
            objective,
            "--fraction",
            &fraction,
        ];
        let kind = format!("pretrain_{objective}");
        self.step(start.name(), &kind, words(&command), start.info())
            .reading(self, home, &[], start.ablation)
    }

    /// Every weight learns, from a pre-trained model.
    pub(super) fn finetune(&self, site: &Cohort, start: &Start<'_>) -> Step {
        let name = format!("finetune-{}-{}", start.name(), site.name);
        let info = RunInfo {
            protocol: Some("finetune".to_owned()),
            ..start.info()
        };
        self.step(name, "finetune", words(&["finetune"]), info)
            .starting(start)
            .learning(&self.config.tasks)
            .reading(self, site, &self.others(site), start.ablation)
            .drawing(site)
    }

    /// How a model from scratch is trained: swept where the study says so.
    fn scratch_command(&self) -> &'static str {
        if self.config.sweep {
            "sweep"
        } else {
            "finetune"
        }
    }

    /// Every weight learns, from random ones.
    pub(super) fn scratch(&self, site: &Cohort) -> Step {
        let command = self.scratch_command();
        let arguments = words(&[command, "--from", "scratch"]);
        let name = format!("scratch-{}", site.name);
        self.step(name, command, arguments, RunInfo::default())
            .learning(&self.config.tasks)
            .reading(self, site, &self.others(site), None)
            .drawing(site)
    }

    pub(super) fn resnet(&self, site: &Cohort) -> Step {
        let set = "model.architecture=resnet50-3d";
        let arguments = words(&[self.scratch_command(), "--from", "scratch", "--set", set]);
        let name = format!("resnet-{}", site.name);
        let info = RunInfo {
            model: Some("ResNet-50 scratch".to_owned()),
            ..RunInfo::default()
        };
        self.step(name, "resnet", arguments, info)
            .learning(&self.config.tasks)
            .reading(self, site, &self.others(site), None)
            .drawing(site)
    }

    pub(super) fn probe(&self, site: &Cohort, start: &Start<'_>, probe: &str) -> Step {
        let name = format!("probe-{probe}-{}-{}", start.name(), site.name);
        let info = RunInfo {
            protocol: Some(format!("{probe}_probe")),
            ..start.info()
        };
        let arguments = words(&["probe", "--kind", probe]);
        self.step(name, "probe", arguments, info)
            .starting(start)
            .learning(&self.config.tasks)
            .reading(self, site, &self.others(site), None)
            .drawing(site)
    }

    /// K scans of each class are drawn for each disease apart, whatever the other steps learn.
    pub(super) fn few_shot(&self, site: &Cohort, start: &Start<'_>) -> Step {
        let name = format!("few-shot-{}-{}", start.name(), site.name);
        self.step(name, "few_shot", words(&["few-shot"]), start.info())
            .starting(start)
            .reading(self, site, &[], None)
    }

    /// Who is in the cohorts, and what the model of interest sees of the first.
    pub(super) fn cohort(&self, site: &Cohort, start: &Start<'_>) -> Step {
        let arguments = words(&["embed-cohort"]);
        let (name, info) = ("cohort".to_owned(), RunInfo::default());
        self.step(name, "cohort", arguments, info)
            .starting(start)
            .reading(self, site, &self.others(site), None)
    }

    /// The model of interest first: the first objective's, fine-tuned on all data at home.
    pub(super) fn report(&self, steps: &[Step]) -> Step {
        let runs = || steps.iter().filter(|step| step.info.is_some());
        let labelled = runs().find(|step| step.name.starts_with("finetune-") && step.is_whole());
        let first = labelled.map(|step| step.name.clone());
        let mut needs: Vec<String> = runs().map(|step| step.name.clone()).collect();
        needs.sort_by_key(|name| Some(name) != first.as_ref());
        let mut arguments = words(&["report"]);
        arguments.extend(needs.iter().map(|name| format!("{{out}}/{name}")));
        let seed = self.config.seed.to_string();
        arguments.extend(words(&["--seed", &seed, "--out", "{out}/report"]));
        Step {
            name: "report".to_owned(),
            arguments,
            needs,
            tables: Vec::new(),
            info: None,
            estimate: self.config.estimates.get("report").cloned(),
        }
    }

    fn others(&self, site: &Cohort) -> Vec<&Cohort> {
        let sites = self.config.sites.iter();
        sites.filter(|other| other.name != site.name).collect()
    }

    /// A step in a folder of its own, named in the report.
    fn step(&self, name: String, kind: &str, mut arguments: Vec<String>, info: RunInfo) -> Step {
        arguments.extend(words(&["--out", &format!("{{out}}/{name}")]));
        let estimates = &self.config.estimates;
        let estimate = estimates.get(&name).or_else(|| estimates.get(kind));
        Step {
            info: Some(RunInfo {
                name: name.clone(),
                seed: Some(self.config.seed),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                ..info
            }),
            estimate: estimate.cloned(),
            name,
            arguments,
            needs: Vec::new(),
            tables: Vec::new(),
        }
    }
}

impl Step {
    fn starting(mut self, start: &Start<'_>) -> Self {
        let name = start.name();
        let folder = format!("{{out}}/{name}");
        self.arguments.extend(words(&["--from", &folder]));
        self.needs.push(name);
        self
    }

    fn learning(mut self, tasks: &str) -> Self {
        self.arguments.extend(words(&["--tasks", tasks]));
        self
    }

    /// The site's own number of draws, over the settings of the study.
    fn drawing(mut self, site: &Cohort) -> Self {
        if let Some(draws) = site.draws {
            let set = format!("finetune.draws={draws}");
            self.arguments.extend(words(&["--set", &set]));
        }
        self
    }

    /// Preset, settings, seed and scans.
    fn reading(
        mut self,
        planner: &Planner<'_>,
        site: &Cohort,
        external: &[&Cohort],
        ablation: Option<&Ablation>,
    ) -> Self {
        let config = planner.config;
        let seed = config.seed.to_string();
        let preset = ["--preset", &config.training, "--seed", &seed];
        self.arguments.extend(words(&preset));
        let ablated = ablation.map_or(&[][..], |ablation| ablation.settings.as_slice());
        for setting in config.settings.iter().chain(ablated) {
            self.arguments.extend(words(&["--set", setting]));
        }
        if let Some(floor) = config.prevalence_floor {
            self.arguments
                .extend(words(&["--prevalence-floor", &floor.to_string()]));
        }
        self.arguments.extend(source("--", site));
        for other in external {
            self.arguments.extend(source("--external-", other));
        }
        for cohort in std::iter::once(&site).chain(external) {
            let Some(folder) = &cohort.cohort else {
                continue;
            };
            self.needs.push(format!("split-{}", cohort.name));
            let folder = Path::new(folder);
            self.tables
                .extend([folder.join("scans.csv"), folder.join("labels.csv")]);
        }
        self
    }
}

fn source(prefix: &str, site: &Cohort) -> Vec<String> {
    let named = |flag: &str, value: &str| vec![format!("{prefix}{flag}"), value.to_owned()];
    let mut arguments = Vec::new();
    if let Some(phantoms) = &site.phantoms {
        arguments.extend(named("phantoms", phantoms));
    }
    if let Some(cohort) = &site.cohort {
        arguments.extend(named("cohort", cohort));
    }
    arguments
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
