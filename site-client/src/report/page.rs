//! The self-contained page.

use askama::Template;

use super::parts::Section;
use super::study::Study;
use crate::evaluate::Clustering;

/// The page: no script, no font, no picture from elsewhere.
#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) version: &'a str,
    pub(super) methods: Vec<String>,
    pub(super) sections: &'a [Section],
    pub(super) configurations: Vec<(String, String)>,
}

/// How the results were made, in sentences.
pub(super) fn methods(study: &Study) -> Vec<String> {
    let settings = &study.settings;
    let unit = match settings.clustering {
        Clustering::Scan => "scan",
        Clustering::Patient => "patient",
    };
    let scans: usize = study
        .sites()
        .iter()
        .filter_map(|site| {
            let cells = study.models.iter().flat_map(|model| &model.table.cells);
            cells
                .filter(|cell| cell.group.as_ref() == Some(site))
                .map(|cell| cell.n)
                .max()
        })
        .sum();
    let versions =
        super::study::distinct(study.runs.iter().filter_map(|run| run.info.version.clone()));
    let version = if versions.is_empty() {
        "not recorded".to_owned()
    } else {
        versions.join(", ")
    };
    vec![
        format!(
            "Results are of {} runs on {} sites with {scans} test scans. Training software: \
             version {version}; report: version {}. Seeds and configuration digests of all runs \
             are in the table of runs, configurations at the end.",
            study.runs.len(),
            study.sites().len(),
            env!("CARGO_PKG_VERSION"),
        ),
        format!(
            "Areas under ROC curves are exact, ties counting one half; average precision is the \
             step-wise area without interpolation. Intervals are {} % percentile bootstrap \
             intervals from {} resamples of the test scans, drawn by {unit} within class strata \
             so that no resample loses a class (seed {}). Macro rows average over diseases; their \
             intervals resample {unit}s once for all diseases.",
            settings.level * 100.0,
            settings.bootstraps,
            settings.seed,
        ),
        format!(
            "Models are compared on the same scans by DeLong's test and by a two-sided paired \
             permutation test ({} permutations by {unit}, p = (1 + count) / (1 + permutations)). \
             Marks in figures are adjusted over the diseases of a panel by Holm's method. The \
             published study used 100 resamples and 1,000 permutations and named neither the kind \
             of interval nor an adjustment.",
            settings.permutations,
        ),
    ]
}

/// Each run's configuration as it is.
pub(super) fn configurations(study: &Study) -> Vec<(String, String)> {
    let named = |run: &super::run::Run| {
        (
            format!("{} ({})", run.info.name, run.config_digest()),
            run.config.clone(),
        )
    };
    study
        .runs
        .iter()
        .filter(|run| !run.config.is_empty())
        .map(named)
        .collect()
}
