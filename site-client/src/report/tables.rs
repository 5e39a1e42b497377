//! Tables: summary, every cell, comparisons, runs, and the paper's published numbers.

use super::parts::{Table, number, p_value, with_interval};
use super::plot::Estimate;
use super::study::{Model, Study, protocol_name};
use crate::evaluate::{Cell, MACRO};

/// Mean over diseases of each model at each site.
pub(super) fn summary(study: &Study) -> Table {
    let mut table = Table::new(
        "table-summary",
        "Mean over diseases",
        "Macro ROC AUC and macro average precision with intervals. In the last columns the first \
         model minus this one on the same scans: the difference in macro AUC and the p-value of the \
         two-sided paired permutation test.",
        &[
            "tested at",
            "model",
            "trained at",
            "scans",
            "AUC",
            "AP",
            "difference",
            "p",
        ],
    );
    for site in study.sites() {
        for model in study.main_models() {
            let Some(cell) = model.cell(&site, MACRO) else {
                continue;
            };
            let comparison = study
                .comparisons
                .iter()
                .find(|c| c.other == model.label && c.trained_at == model.trained_at)
                .and_then(|c| {
                    let mut cells = c.table.cells.iter();
                    cells.find(|c| c.task == MACRO && c.group.as_ref() == Some(&site))
                })
                .and_then(|cell| cell.comparison.clone())
                .unwrap_or_default();
            let shown = comparison.delta.is_some();
            table.rows.push(vec![
                site.clone(),
                model.label.clone(),
                model.trained_at.clone().unwrap_or_else(|| "–".to_owned()),
                cell.n.to_string(),
                with_interval(cell.auc, cell.auc_ci),
                with_interval(cell.ap, cell.ap_ci),
                if shown {
                    with_interval(comparison.delta, comparison.delta_ci)
                } else {
                    "–".to_owned()
                },
                p_value(comparison.permutation_p),
            ]);
        }
    }
    table
}

/// Every cell of every model.
pub(super) fn cells(study: &Study) -> Table {
    let mut table = Table::new(
        "table-cells",
        "All results",
        "Every disease, model and site. Sensitivity and specificity stand at the threshold chosen \
         on validation scans, where a run has some.",
        &[
            "tested at",
            "model",
            "trained at",
            "disease",
            "scans",
            "positive",
            "AUC",
            "AP",
            "DeLong SE",
            "Brier",
            "ECE",
            "sensitivity",
            "specificity",
            "note",
        ],
    );
    for model in &study.models {
        for cell in &model.table.cells {
            let point = cell.operating_point;
            table.rows.push(vec![
                cell.group.clone().unwrap_or_default(),
                model.label.clone(),
                model.trained_at.clone().unwrap_or_else(|| "–".to_owned()),
                cell.task.clone(),
                cell.n.to_string(),
                cell.positives.to_string(),
                with_interval(cell.auc, cell.auc_ci),
                with_interval(cell.ap, cell.ap_ci),
                number(cell.delong_se),
                number(cell.brier),
                number(cell.ece),
                number(point.and_then(|point| point.sensitivity)),
                number(point.and_then(|point| point.specificity)),
                cell.reason.clone().unwrap_or_default(),
            ]);
        }
    }
    table
}

/// The first model against the others per disease.
pub(super) fn comparisons(study: &Study) -> Option<Table> {
    let first = study.reference()?.label.clone();
    let mut table = Table::new(
        "table-comparisons",
        "Tests",
        &format!(
            "{first} minus each other model on the same scans. DeLong's test takes each scan as \
             its own unit; the permutation test exchanges the scores of a whole patient. The last \
             column is adjusted over the diseases of one site and pair of models (Holm); the other \
             p-values are not."
        ),
        &[
            "tested at",
            "trained at",
            "against",
            "disease",
            "difference in AUC",
            "DeLong p",
            "permutation p",
            "permutation p, Holm",
            "note",
        ],
    );
    for comparison in &study.comparisons {
        for cell in &comparison.table.cells {
            table.rows.push(comparison_row(
                &comparison.other,
                comparison.trained_at.as_deref(),
                cell,
            ));
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

fn comparison_row(other: &str, trained_at: Option<&str>, cell: &Cell) -> Vec<String> {
    let tests = cell.comparison.clone().unwrap_or_default();
    vec![
        cell.group.clone().unwrap_or_default(),
        trained_at.unwrap_or("–").to_owned(),
        other.to_owned(),
        cell.task.clone(),
        with_interval(tests.delta, tests.delta_ci),
        p_value(tests.delong_p),
        p_value(tests.permutation_p),
        p_value(tests.permutation_p_holm),
        tests.reason.unwrap_or_default(),
    ]
}

/// What made these results.
pub(super) fn runs(study: &Study) -> Table {
    let mut table = Table::new(
        "table-runs",
        "Runs",
        "Configuration digest: the first 16 hex digits of BLAKE3 over the run's run.toml.",
        &[
            "run",
            "model",
            "protocol",
            "trained at",
            "objective",
            "share of data",
            "seed",
            "version",
            "configuration",
        ],
    );
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    for run in &study.runs {
        let info = &run.info;
        table.rows.push(vec![
            info.name.clone(),
            text(&info.model),
            info.protocol
                .as_deref()
                .map_or("–", protocol_name)
                .to_owned(),
            text(&info.trained_at),
            text(&info.objective),
            info.pretraining_fraction
                .map_or_else(|| "–".to_owned(), |f| format!("{} %", f * 100.0)),
            info.seed
                .map_or_else(|| "–".to_owned(), |seed| seed.to_string()),
            text(&info.version),
            run.config_digest(),
        ]);
    }
    table
}

/// Macro AUCs of the paper (Results, Fig. 1e), which nobody here measured, beside those of sites that
/// are named like its data sets.
pub(super) fn published(study: &Study) -> Table {
    let mut table = Table::new(
        "table-published",
        "Published results, for orientation",
        "Columns marked published: macro ROC AUC of FM-CT (arXiv 2502.02779) on its authors' \
         patients, not measured here. Columns marked here: this report's models at a site of the \
         same name, the first model and the first other one that was not pre-trained. Data, labels \
         and sizes differ, so a difference between the two says nothing about either model.",
        &[
            "data set",
            "diseases, published",
            "test scans, published",
            "fine-tuned, published",
            "fine-tuned, here",
            "from scratch, published",
            "from scratch, here",
        ],
    );
    for [name, site, diseases, scans, finetuned, scratch] in PUBLISHED {
        let here = study.sites().into_iter().find(|found| same(found, site));
        let area = |wanted: &dyn Fn(&Model) -> bool| {
            let here = here.as_deref()?;
            let models = study.main_models().filter(|model| {
                wanted(model) && model.trained_at.as_deref().is_none_or(|at| at == here)
            });
            let mut areas = models.filter_map(|model| model.auc(here, MACRO));
            areas.next()
        };
        let first = study.reference().map(|model| model.label.clone());
        let mine = area(&|model| Some(&model.label) == first.as_ref());
        let bare = area(&|model| {
            let objective = model.info.objective.as_deref();
            objective.is_none_or(|name| name == "none") && Some(&model.label) != first.as_ref()
        });
        let shown = |estimate: Option<Estimate>| {
            with_interval(
                estimate.map(|estimate| estimate.value),
                estimate.and_then(|estimate| estimate.interval),
            )
        };
        table.rows.push(vec![
            name.to_owned(),
            diseases.to_owned(),
            scans.to_owned(),
            finetuned.to_owned(),
            shown(mine),
            scratch.to_owned(),
            shown(bare),
        ]);
    }
    table
}

/// Letters and digits of two names agree.
fn same(found: &str, site: &str) -> bool {
    let letters = found.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect::<String>() == site
}

/// Name, name here, diseases, test scans, fine-tuned, from scratch.
const PUBLISHED: [[&str; 6]; 4] = [
    ["NYU Langone", "langone", "10", "26,487", "0.852", "0.734"],
    [
        "NYU Long Island",
        "longisland",
        "10",
        "2,202",
        "0.904",
        "0.748",
    ],
    ["RSNA 2019", "rsna", "5", "1,058", "0.923", "0.824"],
    ["CQ500", "cq500", "10", "236", "0.863", "–"],
];
