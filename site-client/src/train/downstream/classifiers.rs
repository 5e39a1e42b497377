//! Few-shot classifiers without training, on frozen features.
//!
//! Source: Methods, "Few-shots classification evaluation", which names k-nearest neighbours,
//! SimpleShot (Wang et al. 2019) and prototypical networks (Snell et al. 2017); their settings are
//! not published. Features come from the frozen backbone, so only the decision rules remain.

/// Which rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Cosine similarity, votes weighted by exp(similarity / 0.07) as in DINO's evaluation.
    NearestNeighbors {
        /// Neighbors that vote.
        k: usize,
    },
    /// Squared Euclidean distance to the class means. Scores rank scans as the published softmax
    /// does, which at hundreds of features is 0 or 1 in every double.
    Prototypical,
    /// The same after subtracting the mean of the training features and scaling to unit length.
    SimpleShot,
}

/// Features of several scans, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features<'a> {
    /// All rows.
    pub(crate) values: &'a [f32],
    /// Length of a row.
    pub(crate) dim: usize,
}

impl<'a> Features<'a> {
    /// Row `index`.
    #[must_use]
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }
}

/// Scores in [0, 1] of the `queries` rows, from labelled rows (`negative`, `positive`) of the same
/// table.
///
/// # Panics
///
/// If a class is empty or a row does not exist.
#[must_use]
pub(crate) fn scores(
    rule: Rule,
    features: Features<'_>,
    negative: &[usize],
    positive: &[usize],
    queries: &[usize],
) -> Vec<f64> {
    assert!(
        !negative.is_empty() && !positive.is_empty(),
        "a class without scans"
    );
    match rule {
        Rule::NearestNeighbors { k } => {
            let unit = |row: &usize| unit(widen(features.row(*row)));
            let mut train: Vec<(Vec<f64>, bool)> = Vec::new();
            train.extend(negative.iter().map(|row| (unit(row), false)));
            train.extend(positive.iter().map(|row| (unit(row), true)));
            queries
                .iter()
                .map(|query| vote(&unit(query), &train, k))
                .collect()
        }
        Rule::Prototypical => {
            let row = |row: &usize| widen(features.row(*row));
            let places = nearest_mean(row, negative, positive, queries);
            places.into_iter().map(Place::squashed).collect()
        }
        Rule::SimpleShot => {
            let all = negative
                .iter()
                .chain(positive)
                .map(|row| widen(features.row(*row)));
            let center = mean(all, features.dim);
            let row = |row: &usize| {
                let row = widen(features.row(*row));
                unit(
                    row.into_iter()
                        .zip(&center)
                        .map(|(value, center)| value - center)
                        .collect(),
                )
            };
            let places = nearest_mean(row, negative, positive, queries);
            places.into_iter().map(Place::softmax).collect()
        }
    }
}

fn vote(query: &[f64], train: &[(Vec<f64>, bool)], k: usize) -> f64 {
    const TEMPERATURE: f64 = 0.07;
    let mut similar: Vec<(f64, bool)> = train
        .iter()
        .map(|(row, label)| (dot(query, row), *label))
        .collect();
    similar.sort_by(|a, b| b.0.total_cmp(&a.0));
    similar.truncate(k.max(1));
    let weight = |similarity: f64| (similarity / TEMPERATURE).exp();
    let total: f64 = similar
        .iter()
        .map(|(similarity, _)| weight(*similarity))
        .sum();
    let votes = similar.iter().filter(|(_, label)| *label);
    votes
        .map(|(similarity, _)| weight(*similarity))
        .sum::<f64>()
        / total
}

/// Where a scan lies between the means of two classes, in squared distances.
#[derive(Clone, Copy)]
struct Place {
    /// How much closer to the positive mean than to the negative one.
    closer: f64,
    /// Between the two means.
    apart: f64,
}

impl Place {
    /// Softmax over the negated distances: features of unit length are never far apart.
    fn softmax(self) -> f64 {
        1.0 / (1.0 + (-self.closer).exp())
    }

    /// A strictly increasing function of `closer`, with 1/2 where the softmax has it. In units of the
    /// distance between the means, so that it distinguishes scans at any number of features.
    fn squashed(self) -> f64 {
        let unit = self.apart.max(f64::MIN_POSITIVE);
        0.5 + 0.5 * self.closer / (unit + self.closer.abs())
    }
}

fn nearest_mean(
    row: impl Fn(&usize) -> Vec<f64>,
    negative: &[usize],
    positive: &[usize],
    queries: &[usize],
) -> Vec<Place> {
    let dim = row(&negative[0]).len();
    let (negative, positive) = (
        mean(negative.iter().map(&row), dim),
        mean(positive.iter().map(&row), dim),
    );
    let apart = distance(&negative, &positive);
    let place = |query: &usize| {
        let query = row(query);
        Place {
            closer: distance(&query, &negative) - distance(&query, &positive),
            apart,
        }
    };
    queries.iter().map(place).collect()
}

fn widen(row: &[f32]) -> Vec<f64> {
    row.iter().map(|value| f64::from(*value)).collect()
}

fn unit(row: Vec<f64>) -> Vec<f64> {
    let norm = dot(&row, &row).sqrt().max(1e-12);
    row.into_iter().map(|value| value / norm).collect()
}

fn mean(rows: impl Iterator<Item = Vec<f64>>, dim: usize) -> Vec<f64> {
    let (mut sum, mut count) = (vec![0.0; dim], 0.0);
    for row in rows {
        count += 1.0;
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
    }
    sum.into_iter().map(|sum| sum / count).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::stream;

    const RULES: [Rule; 3] = [
        Rule::NearestNeighbors { k: 1 },
        Rule::Prototypical,
        Rule::SimpleShot,
    ];

    #[test]
    fn every_rule_separates_two_clusters() {
        let values = [0.0, 1.0, 0.1, 0.9, 1.0, 0.0, 0.9, 0.2, 0.1, 1.1, 1.1, 0.1];
        let features = Features {
            values: &values,
            dim: 2,
        };
        for rule in RULES {
            let scores = scores(rule, features, &[0, 1], &[2, 3], &[4, 5]);
            assert!(scores[0] < 0.5 && scores[1] > 0.5, "{rule:?} {scores:?}");
        }
    }

    #[test]
    fn a_simple_shot_score_is_the_softmax_of_squared_distances() {
        let features = Features {
            values: &[0.0, 2.0, 0.5],
            dim: 1,
        };
        // Centered on the mean of the two, all have length one: −1, 1 and −1.
        let score = scores(Rule::SimpleShot, features, &[0], &[1], &[2])[0];
        let expected = (-4.0f64).exp() / ((-4.0f64).exp() + 1.0);
        assert!((score - expected).abs() < 1e-12);
    }

    #[test]
    fn prototypical_scores_keep_the_ranks_of_the_softmax_and_differ_at_768_features() {
        const DIM: usize = 768;
        const QUERIES: usize = 60;
        let noise = |row: usize, column: usize| {
            let draw = stream(3, "feature", &[row as u64, column as u64]);
            draw as f32 / u64::MAX as f32
        };
        // Means 768 apart; scans from well before the one to well beyond the other, in an order that
        // the noise across does not change.
        let mut values = vec![0.0; DIM];
        values.extend([1.0; DIM]);
        for query in 0..QUERIES {
            let along = -0.5 + 2.0 * query as f32 / QUERIES as f32;
            let across = |column: usize| noise(query, column / 2) * [1.0, -1.0][column % 2];
            values.extend((0..DIM).map(|column| along + across(column)));
        }
        let features = Features {
            values: &values,
            dim: DIM,
        };
        let queries: Vec<usize> = (2..2 + QUERIES).collect();
        let scores = scores(Rule::Prototypical, features, &[0], &[1], &queries);
        assert!(scores.iter().all(|score| (0.0..1.0).contains(score)));
        assert!(
            scores.windows(2).all(|pair| pair[0] < pair[1]),
            "{scores:?}"
        );
        // The softmax decides for the closer mean.
        let closer = |query: usize| query * 2 > QUERIES;
        for (query, score) in scores.iter().enumerate() {
            assert!(
                query * 2 == QUERIES || closer(query) == (*score > 0.5),
                "{query}"
            );
        }
    }

    #[test]
    fn means_that_coincide_decide_nothing() {
        let features = Features {
            values: &[1.0, 1.0, 4.0],
            dim: 1,
        };
        assert_eq!(
            scores(Rule::Prototypical, features, &[0], &[1], &[2]),
            [0.5]
        );
    }

    #[test]
    fn simple_shot_ignores_a_common_offset_and_scale() {
        let values = [0.0, 1.0, 1.0, 0.0, 0.3, 0.8];
        let moved: Vec<f32> = values.iter().map(|value| value * 8.0 + 32.0).collect();
        let score = |values: &[f32]| {
            scores(
                Rule::SimpleShot,
                Features { values, dim: 2 },
                &[0],
                &[1],
                &[2],
            )[0]
        };
        assert!((score(&values) - score(&moved)).abs() < 1e-5);
    }
}
