//! Areas under the ROC curve from score histograms: what a coordinator may know of scores.
//!
//! A site sends two counts for each bin, so areas of several sites together need no further
//! exchange. Within a bin a pair counts one half; the true area differs from that by at most half
//! the share of pairs that meet in a bin, which is told beside it. DeLong's variance (DeLong et al.
//! 1988) follows from the counts alone, for placement values are constant within a bin.

use std::fmt;

/// An area under the ROC curve from counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// The area, pairs within a bin counted one half.
    pub auc: f64,
    /// The area of the unbinned scores differs by at most this.
    pub bound: f64,
    /// 95 % interval of the binned area; none where a class has one patient.
    pub interval: Option<[f64; 2]>,
    /// Patients with the disease.
    pub positives: u64,
    /// Patients without it.
    pub negatives: u64,
}

/// With its interval, where it has one.
impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interval {
            Some([low, high]) => write!(f, "{:.3} ({low:.3} to {high:.3})", self.auc),
            None => write!(f, "{:.3}", self.auc),
        }
    }
}

/// The area of all histograms together; each is the counts with and without the disease, by bin.
/// None without both classes, or where the numbers of bins differ.
pub fn area<'a>(histograms: impl IntoIterator<Item = (&'a [u32], &'a [u32])>) -> Option<Area> {
    let [mut positive, mut negative] = [const { Vec::<u64>::new() }; 2];
    for (with, without) in histograms {
        if positive.is_empty() {
            positive.resize(with.len(), 0);
            negative.resize(with.len(), 0);
        }
        if with.len() != positive.len() || without.len() != negative.len() {
            return None;
        }
        for (sum, counts) in [(&mut positive, with), (&mut negative, without)] {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        }
    }
    let (positives, negatives): (u64, u64) = (positive.iter().sum(), negative.iter().sum());
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (all, none) = (positives as f64, negatives as f64);
    let (mut below, mut above) = (0.0, all);
    let (mut wins, mut ties) = (0.0, 0.0);
    // Count, and share of the other class it is on the right side of, by bin.
    let mut placements = [const { Vec::new() }; 2];
    for (&with, &without) in positive.iter().zip(&negative) {
        let (with, without) = (with as f64, without as f64);
        above -= with;
        wins += with * (below + without / 2.0);
        ties += with * without;
        placements[0].push((with, (below + without / 2.0) / none));
        placements[1].push((without, (above + with / 2.0) / all));
        below += without;
    }
    let auc = wins / (all * none);
    let spread = |rows: &[(f64, f64)], count: f64| {
        let squares = rows
            .iter()
            .map(|(weight, value)| weight * (value - auc).powi(2));
        squares.sum::<f64>() / (count - 1.0) / count
    };
    let interval = (positives > 1 && negatives > 1).then(|| {
        let variance = spread(&placements[0], all) + spread(&placements[1], none);
        let half = Z95 * variance.sqrt();
        [(auc - half).max(0.0), (auc + half).min(1.0)]
    });
    Some(Area {
        auc,
        bound: ties / (all * none) / 2.0,
        interval,
        positives,
        negatives,
    })
}

/// The 97.5 % quantile of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_and_those_within_a_bin_bound_the_error() {
        // Scores by bin: healthy 0 0 1, diseased 1 2.
        let found = area([(&[0, 1, 1][..], &[2, 1, 0][..])]).unwrap();
        assert_eq!((found.positives, found.negatives), (2, 3));
        assert!((found.auc - 5.5 / 6.0).abs() < 1e-12);
        assert!((found.bound - 0.5 / 6.0).abs() < 1e-12);
        // Placements of the diseased 5/6 and 1, of the healthy 1, 1 and 3/4.
        let variance = (2.0 * (1.0_f64 / 12.0).powi(2)) / 2.0
            + (2.0 * (1.0_f64 / 12.0).powi(2) + (1.0_f64 / 6.0).powi(2)) / 2.0 / 3.0;
        let [low, high] = found.interval.unwrap();
        assert!((low - (5.5 / 6.0 - Z95 * variance.sqrt())).abs() < 1e-12);
        assert_eq!(high, 1.0);
    }

    #[test]
    fn sites_together_are_the_sum_of_their_counts() {
        let (one, two) = (([3, 0, 5], [4, 1, 0]), ([0, 2, 2], [6, 6, 1]));
        let pooled = area([(&one.0[..], &one.1[..]), (&two.0[..], &two.1[..])]);
        assert_eq!(pooled, area([(&[3, 2, 7][..], &[10, 7, 1][..])]));
    }

    #[test]
    fn one_class_or_other_bins_have_no_area() {
        assert_eq!(area([(&[1, 2][..], &[0, 0][..])]), None);
        assert_eq!(
            area([(&[1, 2][..], &[0, 1][..]), (&[1][..], &[1][..])]),
            None
        );
        assert_eq!(area([]), None);
        assert_eq!(area([(&[1][..], &[5][..])]).unwrap().interval, None);
    }
}
