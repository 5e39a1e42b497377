//! Few-shot results from predictions: the trainer names K and draw in the column `run`.

use std::collections::BTreeMap;

use core_model::metrics::Ranked;

use super::FewShot;
use crate::evaluate::{Part, Prediction, Predictions};

/// Takes the rows whose run is `kK-rR` out of the predictions and computes their areas on test
/// scans of the training site; a draw with one class only has none.
pub(super) fn take(predictions: &mut Predictions) -> Vec<FewShot> {
    type Key = (String, String, usize, usize, Option<String>);
    let mut draws: BTreeMap<Key, (Vec<bool>, Vec<f64>)> = BTreeMap::new();
    predictions.rows.retain(|row| {
        let Some((shots, repeat)) = draw(row) else {
            return true;
        };
        let external = row.trained_at.is_some() && row.trained_at != row.site;
        if row.part == Part::Test && !external {
            let site = row.site.as_deref().unwrap_or("test").to_owned();
            let model = row.model.as_deref().map(str::to_owned);
            let key = (site, row.task.to_string(), shots, repeat, model);
            let (labels, scores) = draws.entry(key).or_default();
            labels.push(row.label);
            scores.push(row.score);
        }
        false
    });
    let areas =
        |((site, task, shots, repeat, model), (labels, scores)): (Key, (Vec<_>, Vec<_>))| {
            let areas = Ranked::new(&labels, &scores).ok()?.areas();
            let (auc, ap) = (areas.roc_auc, areas.average_precision);
            Some(FewShot {
                site,
                task,
                shots,
                repeat,
                auc,
                ap,
                model,
            })
        };
    draws.into_iter().filter_map(areas).collect()
}

/// K and the number of the draw.
fn draw(row: &Prediction) -> Option<(usize, usize)> {
    let (shots, repeat) = row.run.as_deref()?.strip_prefix('k')?.split_once("-r")?;
    Some((shots.parse().ok()?, repeat.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_become_rows_and_other_predictions_stay() {
        let row = |run: &str, scan: usize, score: f64| {
            let name = format!("s{scan}");
            let mut row = Prediction::new(name.clone(), name, "ICH", scan == 0, score);
            row.run = Some(run.into());
            row
        };
        let mut predictions = Predictions {
            rows: vec![
                row("k8-r0", 0, 0.9),
                row("k8-r0", 1, 0.1),
                row("k8-r1", 0, 0.1),
                row("k8-r1", 1, 0.9),
                row("kind-run", 0, 0.5),
                row("k16-r0", 0, 0.5),
            ],
        };
        let rows = take(&mut predictions);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.shots, row.repeat, row.auc))
            .collect();
        // One scan alone has no AUC.
        assert_eq!(found, [(8, 0, 1.0), (8, 1, 0.0)]);
        assert_eq!(predictions.rows.len(), 1);
    }
}
