//! t-SNE of embeddings, coloured by manufacturer, thickness and disease (Suppl. Fig. 11).

use super::super::parts::Figure;
use super::super::plot::{PointGroup, Points};
use super::super::run::Embeddings;
use super::super::study::Study;

/// The first run's embeddings, one panel per coloring.
pub(in crate::report) fn embedding(study: &Study) -> Option<Figure> {
    let run = study.runs.iter().find(|run| run.embeddings.is_some())?;
    let embeddings = run.embeddings.as_ref()?;
    let chosen = chosen(embeddings.scans());
    if chosen.len() < 10 {
        return None;
    }
    let plane = tsne(embeddings, &chosen);
    let mut panels = Vec::new();
    let by = |title: &str, name: &dyn Fn(usize) -> Option<String>| {
        let mut names: Vec<String> = chosen.iter().filter_map(|&scan| name(scan)).collect();
        names.sort();
        names.dedup();
        (names.len() > 1).then(|| grouped(title, &names, &chosen, &plane, name))
    };
    panels.extend(by("manufacturer", &|scan| {
        embeddings.manufacturer[scan].clone()
    }));
    panels.extend(by("slice thickness", &|scan| {
        embeddings.thickness[scan].map(|mm| match mm {
            mm if mm <= 1.5 => "≤ 1.5 mm".to_owned(),
            mm if mm <= 3.0 => "1.5–3 mm".to_owned(),
            _ => "> 3 mm".to_owned(),
        })
    }));
    panels.extend(by("site", &|scan| embeddings.site[scan].clone()));
    for (task, labels) in &embeddings.labels {
        let side = |label: bool| {
            let points = chosen
                .iter()
                .zip(&plane)
                .filter(|(scan, _)| labels[**scan] == Some(label));
            points.map(|(_, point)| *point).collect::<Vec<_>>()
        };
        if !side(true).is_empty() {
            let group = |name: &str, style, label| PointGroup {
                name: name.to_owned(),
                style,
                points: side(label),
                background: !label,
            };
            let groups = vec![group("negative", 0, false), group("positive", 1, true)];
            panels.push(Points {
                title: task.clone(),
                groups,
            });
        }
    }
    Figure::new(
        "fig-tsne",
        "Embeddings",
        &format!(
            "t-SNE of the embeddings of {} scans ({}), perplexity {}. Distances between far groups \
             have no meaning.",
            chosen.len(),
            run.info.name,
            perplexity(chosen.len())
        ),
        panels.iter().map(|points| |id: &str| points.svg(id)),
    )
}

fn grouped(
    title: &str,
    names: &[String],
    chosen: &[usize],
    plane: &[(f64, f64)],
    name: &dyn Fn(usize) -> Option<String>,
) -> Points {
    let group = |(style, wanted): (usize, &String)| PointGroup {
        name: wanted.clone(),
        style,
        points: chosen
            .iter()
            .zip(plane)
            .filter(|(scan, _)| name(**scan).as_ref() == Some(wanted))
            .map(|(_, point)| *point)
            .collect(),
        background: false,
    };
    Points {
        title: title.to_owned(),
        groups: names.iter().enumerate().map(group).collect(),
    }
}

/// Evenly spread scans, as many as the exact method takes in a second or two.
fn chosen(scans: usize) -> Vec<usize> {
    let count = scans.min(MOST_SCANS);
    (0..count)
        .map(|place| place * scans / count.max(1))
        .collect()
}

fn perplexity(scans: usize) -> f32 {
    (scans as f32 / 5.0).floor().clamp(2.0, 30.0)
}

/// Exact t-SNE from the first two principal components, on one thread: sums over several threads
/// would differ from run to run in the last digit, and t-SNE blows digits up.
fn tsne(embeddings: &Embeddings, chosen: &[usize]) -> Vec<(f64, f64)> {
    let width = embeddings.width;
    let rows: Vec<&[f32]> = chosen
        .iter()
        .map(|&scan| &embeddings.values[scan * width..][..width])
        .collect();
    let start = principal_components(&rows);
    let fit = || {
        bhtsne::tSNE::<f32, &[f32], 2>::new(&rows)
            .perplexity(perplexity(rows.len()))
            .epochs(EPOCHS)
            .initial_embedding(start.clone())
            .exact(|a, b| a.iter().zip(*b).map(|(a, b)| (a - b).powi(2)).sum::<f32>())
            .embedding()
    };
    let flat = match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(one_thread) => one_thread.install(fit),
        Err(_) => fit(),
    };
    flat.chunks_exact(2)
        .map(|point| (f64::from(point[0]), f64::from(point[1])))
        .collect()
}

/// First two principal components by power iteration, scaled to t-SNE's customary start.
fn principal_components(rows: &[&[f32]]) -> Vec<f32> {
    let width = rows.first().map_or(0, |row| row.len());
    let count = rows.len() as f64;
    let mean: Vec<f64> = (0..width)
        .map(|column| rows.iter().map(|row| f64::from(row[column])).sum::<f64>() / count)
        .collect();
    let centered: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .zip(&mean)
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect()
        })
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for component in 0..2usize {
        // Any start that is not orthogonal to the axis will do.
        let mut axis: Vec<f64> = (0..width)
            .map(|column| 1.0 + ((column * (component + 3)) % 7) as f64)
            .collect();
        for _ in 0..POWER_STEPS {
            let mut next = vec![0.0; width];
            for row in &centered {
                let weight = dot(row, &axis);
                next.iter_mut()
                    .zip(row)
                    .for_each(|(next, value)| *next += weight * value);
            }
            for found in &axes {
                let along = dot(&next, found);
                next.iter_mut()
                    .zip(found)
                    .for_each(|(next, value)| *next -= along * value);
            }
            let norm = dot(&next, &next).sqrt().max(f64::MIN_POSITIVE);
            axis = next.into_iter().map(|value| value / norm).collect();
        }
        axes.push(axis);
    }
    let projected: Vec<[f64; 2]> = centered
        .iter()
        .map(|row| [dot(row, &axes[0]), dot(row, &axes[1])])
        .collect();
    let spread = (projected.iter().map(|p| p[0] * p[0]).sum::<f64>() / count)
        .sqrt()
        .max(1e-12);
    projected
        .iter()
        .flatten()
        .map(|value| (value / spread * 1e-4) as f32)
        .collect()
}

const MOST_SCANS: usize = 800;
const EPOCHS: usize = 500;
const POWER_STEPS: usize = 50;
