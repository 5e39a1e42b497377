//! Scores of the trials, and differences whose intervals resample seeds, subsets and patients.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use core_model::metrics::{Ranked, percentile_interval};
use rayon::prelude::*;
use site_client::evaluate::{Prediction, Predictions};
use site_client::train::data::stream;

use super::super::cohorts::EXTERNAL;
use super::super::jobs::Sweep;

/// Resamples of an interval.
const RESAMPLES: u64 = 400;

/// Which test scans a number is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// langone.
    Internal,
    /// The mean over the external sites.
    External,
    /// One external site.
    Site(&'static str),
}

impl Group {
    pub(crate) const SITES: [Self; 2] = [Self::Internal, Self::External];

    fn holds(self, site: &str) -> bool {
        match self {
            Self::Internal => site == "langone",
            Self::External => EXTERNAL.contains(&site),
            Self::Site(name) => site == name,
        }
    }
}

/// One task at one site in one trial.
struct Cell {
    site: String,
    ranked: Ranked,
    patients: Vec<u64>,
}

/// One trial by what it is called.
struct Trial {
    start: String,
    way: String,
    /// Pre-training seed and label subset.
    place: (u64, u64),
    cells: Vec<Cell>,
}

/// A sweep from one start with one subset.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Search {
    start: String,
    /// [`Sweep::prefix`].
    sweep: &'static str,
    place: (u64, u64),
}

/// All trials.
pub(crate) struct Scores {
    trials: Vec<Trial>,
    /// Validation AUC of the combinations of each search, by number.
    searches: BTreeMap<Search, BTreeMap<u64, f64>>,
}

/// The trials of one start and way, by seed and subset.
pub(crate) struct Row<'a>(BTreeMap<(u64, u64), &'a Trial>);

impl Scores {
    pub(crate) fn read(out: &Path) -> anyhow::Result<Self> {
        let entries = fs::read_dir(out.join("trials"))?;
        let mut paths = entries
            .map(|e| e.map(|e| e.path()))
            .collect::<Result<Vec<_>, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "val"));
        paths.sort();
        let (mut scores, mut searches) = (Vec::new(), BTreeMap::new());
        for path in paths {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let parts: Vec<&str> = name.split('.').collect();
            let [start, way, subset] = parts[..] else {
                continue;
            };
            let Some((start, seed)) = start.rsplit_once("-s") else {
                continue;
            };
            let place = (seed.parse()?, subset.trim_start_matches('n').parse()?);
            let combination = [Sweep::Own, Sweep::Published]
                .into_iter()
                .find_map(|kind| Some((kind.prefix(), way.strip_prefix(kind.prefix())?)));
            if let Some((kind, index)) = combination {
                let validation: f64 = fs::read_to_string(&path)?.parse()?;
                let search = Search {
                    start: start.to_owned(),
                    sweep: kind,
                    place,
                };
                let areas: &mut BTreeMap<u64, f64> = searches.entry(search).or_default();
                areas.insert(index.parse()?, validation);
            } else {
                let table = path.with_extension("csv");
                scores.push((start.to_owned(), way.to_owned(), place, table));
            }
        }
        let read = |(start, way, place, table): (String, String, _, std::path::PathBuf)| {
            let mut runs: BTreeMap<String, Vec<Prediction>> = BTreeMap::new();
            for row in Predictions::read(&table)?.rows {
                // SimpleShot's table holds several curves.
                let run = row
                    .run
                    .as_ref()
                    .map_or_else(|| way.clone(), |k| format!("{way}-{}-{k}", row.task));
                runs.entry(run).or_default().push(row);
            }
            let trial = |(way, rows): (String, Vec<Prediction>)| Trial {
                start: start.clone(),
                way,
                place,
                cells: cells(&rows),
            };
            Ok(runs.into_iter().map(trial).collect::<Vec<_>>())
        };
        let trials: Vec<Vec<Trial>> = scores
            .into_par_iter()
            .map(read)
            .collect::<anyhow::Result<_>>()?;
        let trials = trials.into_iter().flatten().collect();
        Ok(Self { trials, searches })
    }

    pub(crate) fn row(&self, start: &str, way: &str) -> Row<'_> {
        let wanted = self
            .trials
            .iter()
            .filter(|trial| trial.start == start && trial.way == way);
        Row(wanted.map(|trial| (trial.place, trial)).collect())
    }

    /// One curve's point of a table that holds several.
    pub(crate) fn run(&self, start: &str, way: &str, task: &str, k: usize) -> Row<'_> {
        self.row(start, &format!("{way}-{task}-{k}"))
    }

    /// How often each combination of a sweep was the best by validation.
    pub(crate) fn chosen(&self, start: &str, sweep: Sweep) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for (search, areas) in &self.searches {
            if search.start != start || search.sweep != sweep.prefix() {
                continue;
            }
            // The first of equals, as the study chooses.
            let best = areas.iter().reduce(|a, b| if b.1 > a.1 { b } else { a });
            if let Some((index, _)) = best {
                *counts.entry(*index).or_default() += 1;
            }
        }
        counts
    }
}

impl Row<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Mean over trials of the macro AUC.
    pub(crate) fn mean(&self, group: Group) -> f64 {
        mean(self.0.values().map(|trial| trial.area(group, None)))
    }
}

impl Trial {
    /// Mean AUC over tasks and sites; `resample` weights patients, the same in every trial.
    fn area(&self, group: Group, resample: Option<u64>) -> f64 {
        let area = |cell: &Cell| {
            let weight = |row: usize| match resample {
                None => 1,
                // Poisson bootstrap: each patient counts 0, 1, 2… times.
                Some(seed) => poisson(mix(seed, cell.patients[row])),
            };
            cell.ranked
                .weighted_areas(weight)
                .map(|areas| areas.roc_auc)
        };
        let cells = self.cells.iter().filter(|cell| group.holds(&cell.site));
        mean(cells.filter_map(area))
    }
}

/// The mean paired difference, with a 95 % interval in which seeds, subsets and patients are
/// resampled together (Owen 2007, "The pigeonhole bootstrap").
///
/// Trials of the two rows are paired by seed and subset; pairs that are not there in both count in
/// neither.
pub(crate) fn difference(one: &Row<'_>, two: &Row<'_>, group: Group) -> String {
    let places: Vec<(u64, u64)> = one
        .0
        .keys()
        .filter(|place| two.0.contains_key(place))
        .copied()
        .collect();
    if places.is_empty() {
        return "no pairs".to_owned();
    }
    let pair = |place: &(u64, u64), resample| {
        one.0[place].area(group, resample) - two.0[place].area(group, resample)
    };
    let seeds: Vec<u64> = places
        .iter()
        .map(|place| place.0)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let subsets: Vec<u64> = places
        .iter()
        .map(|place| place.1)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let replicate = |number: u64| {
        let times = |purpose: &str, values: &[u64]| {
            let mut times: BTreeMap<u64, f64> = BTreeMap::new();
            for draw in 0..values.len() as u64 {
                let place = stream(number, purpose, &[draw]) % values.len() as u64;
                *times.entry(values[place as usize]).or_default() += 1.0;
            }
            times
        };
        let (seeds, subsets) = (times("seed", &seeds), times("subset", &subsets));
        let (mut sum, mut total) = (0.0, 0.0);
        for place in &places {
            let weight =
                seeds.get(&place.0).unwrap_or(&0.0) * subsets.get(&place.1).unwrap_or(&0.0);
            if weight > 0.0 {
                sum += weight * pair(place, Some(number));
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    };
    let mut replicates: Vec<f64> = (0..RESAMPLES)
        .into_par_iter()
        .filter_map(replicate)
        .collect();
    replicates.sort_by(f64::total_cmp);
    let observed = mean(places.iter().map(|place| pair(place, None)));
    match percentile_interval(&replicates, 0.95) {
        Ok(interval) => format!(
            "{observed:+.3} ({:+.3} to {:+.3})",
            interval.low, interval.high
        ),
        Err(_) => format!("{observed:+.3}"),
    }
}

/// One cell per task and site.
fn cells(rows: &[Prediction]) -> Vec<Cell> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Prediction>> = BTreeMap::new();
    for row in rows {
        let site = row.site.as_deref().unwrap_or_default();
        groups.entry((site, &row.task)).or_default().push(row);
    }
    let cell = |((site, _), rows): ((&str, &str), Vec<&Prediction>)| {
        let labels: Vec<bool> = rows.iter().map(|row| row.label).collect();
        let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        Some(Cell {
            site: site.to_owned(),
            // A task with one class at a site has no area.
            ranked: Ranked::new(&labels, &scores).ok()?,
            patients: rows
                .iter()
                .map(|row| stream(0, &row.patient, &[]))
                .collect(),
        })
    };
    groups.into_iter().filter_map(cell).collect()
}

/// A well-mixed number of a resample and a patient (the finalizer of SplitMix64).
fn mix(resample: u64, patient: u64) -> u64 {
    let mut z = patient ^ resample.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A draw from Poisson(1) by a uniform 64-bit number.
fn poisson(draw: u64) -> u32 {
    let uniform = draw as f64 / u64::MAX as f64;
    let (mut below, mut term) = (0.0, (-1.0f64).exp());
    for count in 0..12 {
        below += term;
        if uniform < below {
            return count;
        }
        term /= f64::from(count + 1);
    }
    12
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}
