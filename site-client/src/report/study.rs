//! All runs of a report together: which models there are, and their statistics at each site.

use std::collections::BTreeMap;

use super::ReportError;
use super::plot::Estimate;
use super::run::{Run, RunInfo};
use crate::evaluate::{Cell, GroupBy, MetricsTable, Predictions, Settings};

/// The runs and everything computed from their predictions.
pub(super) struct Study {
    pub(super) runs: Vec<Run>,
    pub(super) settings: Settings,
    pub(super) models: Vec<Model>,
    /// The first model against the others.
    pub(super) comparisons: Vec<ModelComparison>,
}

/// One model trained at one site, on all sites it was tested at.
pub(super) struct Model {
    /// Name in figures.
    pub(super) label: String,
    /// Name without what tells it apart from others: protocols of one model share it.
    pub(super) name: String,
    pub(super) trained_at: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) info: RunInfo,
    pub(super) predictions: Predictions,
    /// Cells by site.
    pub(super) table: MetricsTable,
    /// Has another number of channels or another patch size than the models of interest.
    pub(super) ablated: bool,
    /// Neither a scaling run on a part of the data nor an ablation.
    pub(super) main: bool,
}

/// The first model minus another, trained at the same site.
pub(super) struct ModelComparison {
    pub(super) other: String,
    pub(super) trained_at: Option<String>,
    pub(super) table: MetricsTable,
}

impl Study {
    pub(super) fn new(runs: Vec<Run>, settings: Settings) -> Result<Self, ReportError> {
        if runs.is_empty() {
            return Err(ReportError::NoRuns);
        }
        let mut models = models(&runs, &settings)?;
        name_apart(&mut models);
        let mut study = Self {
            runs,
            settings,
            models,
            comparisons: Vec::new(),
        };
        study.comparisons = study.compare()?;
        Ok(study)
    }

    pub(super) fn main_models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().filter(|model| model.main)
    }

    /// The model of interest: the first run's.
    pub(super) fn reference(&self) -> Option<&Model> {
        self.main_models().next()
    }

    /// Models learned as the one of interest was: what scaling curves and ablations compare.
    pub(super) fn alike(&self) -> impl Iterator<Item = &Model> {
        let protocol = self.reference().and_then(|model| model.protocol.clone());
        self.models
            .iter()
            .filter(move |model| model.protocol == protocol)
    }

    /// Names of the main models in order of the runs; the place is the style in every figure.
    pub(super) fn labels(&self) -> Vec<String> {
        distinct(self.main_models().map(|model| model.label.clone()))
    }

    /// Test sites: those that models were trained at first, then in order of appearance.
    pub(super) fn sites(&self) -> Vec<String> {
        let rows = || self.models.iter().flat_map(|model| &model.predictions.rows);
        let tested = distinct(rows().filter_map(|row| row.site.as_deref().map(str::to_owned)));
        let trained = self
            .models
            .iter()
            .filter_map(|model| model.trained_at.clone());
        let trained = trained
            .filter(|site| tested.contains(site))
            .collect::<Vec<_>>();
        distinct(trained.into_iter().chain(tested))
    }

    /// Diseases in order of appearance.
    pub(super) fn tasks(&self) -> Vec<String> {
        let rows = self.models.iter().flat_map(|model| &model.predictions.rows);
        distinct(rows.map(|row| row.task.to_string()))
    }

    /// The model that was trained where it is tested, or trained nowhere in particular.
    pub(super) fn in_domain(&self, label: &str, site: &str) -> Option<&Model> {
        let mut models = self.main_models().filter(|model| model.label == label);
        models.find(|model| {
            model
                .trained_at
                .as_deref()
                .is_none_or(|trained| trained == site)
        })
    }

    /// Marks of significance at a site, by task: the first model against `other`.
    pub(super) fn marks(&self, other: &str, site: &str) -> BTreeMap<String, String> {
        let same = |comparison: &&ModelComparison| {
            comparison.other == other
                && comparison
                    .trained_at
                    .as_deref()
                    .is_none_or(|trained| trained == site)
        };
        let Some(comparison) = self.comparisons.iter().find(same) else {
            return BTreeMap::new();
        };
        let cells = comparison.table.cells.iter();
        let cells = cells.filter(|cell| cell.group.as_deref() == Some(site));
        cells
            .filter_map(|cell| {
                let comparison = cell.comparison.as_ref()?;
                let p = comparison.permutation_p_holm.or(comparison.permutation_p)?;
                Some((cell.task.clone(), stars(p).to_owned()))
            })
            .collect()
    }

    fn compare(&self) -> Result<Vec<ModelComparison>, ReportError> {
        let Some(reference) = self.reference().map(|model| model.label.clone()) else {
            return Ok(Vec::new());
        };
        let mut comparisons = Vec::new();
        for first in self.main_models().filter(|model| model.label == reference) {
            for second in self.main_models().filter(|model| model.label != reference) {
                if first.trained_at != second.trained_at {
                    continue;
                }
                let settings = Settings {
                    by: Some(GroupBy::Site),
                    ..self.settings.clone()
                };
                let table =
                    MetricsTable::compute(&first.predictions, Some(&second.predictions), &settings)
                        .map_err(in_memory)?;
                comparisons.push(ModelComparison {
                    other: second.label.clone(),
                    trained_at: first.trained_at.clone(),
                    table,
                });
            }
        }
        Ok(comparisons)
    }
}

impl Model {
    pub(super) fn cell(&self, site: &str, task: &str) -> Option<&Cell> {
        let cells = &self.table.cells;
        cells
            .iter()
            .find(|cell| cell.group.as_deref() == Some(site) && cell.task == task)
    }

    pub(super) fn auc(&self, site: &str, task: &str) -> Option<Estimate> {
        let cell = self.cell(site, task)?;
        Some(Estimate {
            value: cell.auc?,
            interval: cell.auc_ci,
        })
    }

    pub(super) fn ap(&self, site: &str, task: &str) -> Option<Estimate> {
        let cell = self.cell(site, task)?;
        Some(Estimate {
            value: cell.ap?,
            interval: cell.ap_ci,
        })
    }
}

/// Conventional marks of a p-value.
pub(super) fn stars(p: f64) -> &'static str {
    match p {
        p if p < 0.001 => "***",
        p if p < 0.01 => "**",
        p if p < 0.05 => "*",
        _ => "",
    }
}

/// The first of each.
pub(super) fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// Splits each run's predictions into models and computes their cells by site.
fn models(runs: &[Run], settings: &Settings) -> Result<Vec<Model>, ReportError> {
    let most_channels = runs.iter().filter_map(|run| run.info.channels).max();
    let least_patch = runs.iter().filter_map(|run| run.info.patch).min();
    let mut models = Vec::new();
    for run in runs {
        let info = &run.info;
        let ablated = (info.channels.is_some() && info.channels != most_channels)
            || (info.patch.is_some() && info.patch != least_patch);
        let whole = info.pretraining_fraction.is_none_or(|share| share >= 1.0);
        let mut parts: Vec<([Option<std::sync::Arc<str>>; 3], Predictions)> = Vec::new();
        for row in &run.predictions.rows {
            let mut row = row.clone();
            // A report is by site; predictions of one unnamed site have the site "test".
            row.site.get_or_insert_with(|| UNNAMED_SITE.into());
            let key = [
                row.model.clone(),
                row.protocol.clone(),
                row.trained_at.clone(),
            ];
            match parts.iter_mut().find(|(known, _)| *known == key) {
                Some((_, part)) => part.rows.push(row),
                None => parts.push((key, Predictions { rows: vec![row] })),
            }
        }
        for ([model, protocol, trained_at], predictions) in parts {
            let settings = Settings {
                by: Some(GroupBy::Site),
                ..settings.clone()
            };
            let table = MetricsTable::compute(&predictions, None, &settings).map_err(in_memory)?;
            let name = model.as_deref().unwrap_or(&run.info.name).to_owned();
            models.push(Model {
                label: name.clone(),
                name,
                trained_at: trained_at.as_deref().map(str::to_owned),
                protocol: protocol.as_deref().map(str::to_owned),
                info: run.info.clone(),
                predictions,
                table,
                ablated,
                main: whole && !ablated,
            });
        }
    }
    Ok(models)
}

/// Adds protocol or run to labels that would stand for two models of one training site.
fn name_apart(models: &mut [Model]) {
    if distinct(models.iter().filter_map(|model| model.protocol.clone())).len() > 1 {
        for model in models.iter_mut() {
            if let Some(protocol) = &model.protocol {
                model.label = format!("{}, {}", model.label, protocol_name(protocol));
            }
        }
    }
    let clash = |models: &[Model], place: usize| {
        let same = models.iter().filter(|other| {
            other.main
                && other.label == models[place].label
                && other.trained_at == models[place].trained_at
        });
        same.count() > 1
    };
    let clashing: Vec<usize> = (0..models.len())
        .filter(|&place| models[place].main && clash(models, place))
        .collect();
    for place in clashing {
        models[place].label = format!("{} ({})", models[place].label, models[place].info.name);
    }
}

/// Name of a protocol in figures.
pub(super) fn protocol_name(protocol: &str) -> &str {
    match protocol {
        "finetune" => "fine-tuned",
        "linear_probe" => "linear probe",
        "attentive_probe" => "attentive probe",
        "sweep" => "swept",
        other => other,
    }
}

fn in_memory(source: crate::evaluate::EvaluateError) -> ReportError {
    ReportError::Predictions {
        path: "predictions".into(),
        source,
    }
}

const UNNAMED_SITE: &str = "test";
