//! The collapse watch: figures that show early that self-distillation has stopped learning.

use serde::Serialize;

/// State of a DINO teacher over one batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Vitals {
    /// Scans of the batch.
    pub scans: usize,
    /// Mean entropy of one scan's teacher output, nats; ln K means uniform, 0 one-hot.
    pub entropy: f64,
    /// Entropy of the batch's mean output, nats; 0 means every scan falls on one prototype.
    pub mean_entropy: f64,
    /// Euclidean norm of the center.
    pub center_norm: f64,
    /// Mean over features of the standard deviation over the batch; 0 means all scans look alike.
    pub feature_std: f64,
}

/// What the vitals say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Outputs differ between scans.
    Healthy,
    /// Every scan has the same features or the same output.
    Constant,
    /// One scan alone tells nothing: it cannot differ from itself.
    Undecided,
    /// Every scan's output is uniform over the prototypes.
    Uniform,
}

/// Says when to warn of a collapse: each time outputs cease to be healthy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm {
    raised: bool,
}

impl Alarm {
    /// Whether this verdict is the first that is not healthy since the last that was.
    #[must_use]
    pub fn sounds(&mut self, verdict: Verdict) -> bool {
        let raised = self.raised;
        match verdict {
            Verdict::Healthy => self.raised = false,
            Verdict::Constant | Verdict::Uniform => self.raised = true,
            Verdict::Undecided => {}
        }
        self.raised && !raised
    }
}

impl Vitals {
    /// Judges the vitals for `prototypes` prototypes.
    ///
    /// Source: Caron et al. 2021 §5.3: the two ways to collapse are one dominating dimension and the
    /// uniform distribution. In both, scans do not differ: the entropy of the mean output equals
    /// the mean entropy. The bounds are ours, from phantom runs.
    #[must_use]
    pub fn verdict(&self, prototypes: usize) -> Verdict {
        let uniform = (prototypes as f64).ln();
        if self.scans < 2 {
            Verdict::Undecided
        } else if self.entropy > 0.99 * uniform {
            Verdict::Uniform
        } else if self.feature_std < 1e-4 || self.mean_entropy - self.entropy < 0.01 {
            Verdict::Constant
        } else {
            Verdict::Healthy
        }
    }
}

/// Mean row entropy and entropy of the mean row of `rows` × `columns` probabilities, in nats.
///
/// # Panics
///
/// If `probabilities` does not hold whole rows.
#[must_use]
pub fn entropies(probabilities: &[f32], columns: usize) -> (f64, f64) {
    assert_eq!(probabilities.len() % columns, 0, "rows of {columns}");
    let rows = probabilities.len() / columns;
    let mut mean = vec![0.0; columns];
    let mut total = 0.0;
    for row in probabilities.chunks_exact(columns) {
        for (mean, p) in mean.iter_mut().zip(row) {
            *mean += f64::from(*p) / rows as f64;
            total += surprise(f64::from(*p));
        }
    }
    (total / rows as f64, mean.into_iter().map(surprise).sum())
}

/// Mean over columns of the standard deviation over rows.
///
/// # Panics
///
/// If `features` does not hold whole rows.
#[must_use]
pub fn spread(features: &[f32], columns: usize) -> f64 {
    assert_eq!(features.len() % columns, 0, "rows of {columns}");
    let rows = (features.len() / columns) as f64;
    let (mut sum, mut squares) = (vec![0.0; columns], vec![0.0; columns]);
    for row in features.chunks_exact(columns) {
        for (column, value) in row.iter().enumerate() {
            let value = f64::from(*value);
            sum[column] += value;
            squares[column] += value * value;
        }
    }
    let deviation = |(sum, squares): (f64, f64)| {
        let mean = sum / rows;
        (squares / rows - mean * mean).max(0.0).sqrt()
    };
    sum.into_iter().zip(squares).map(deviation).sum::<f64>() / columns as f64
}

/// −p ln p, 0 at 0.
fn surprise(p: f64) -> f64 {
    if p > 0.0 { -p * p.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(probabilities: &[f32], features: &[f32]) -> Vitals {
        let (entropy, mean_entropy) = entropies(probabilities, 4);
        let feature_std = spread(features, 2);
        Vitals {
            scans: features.len() / 2,
            entropy,
            mean_entropy,
            center_norm: 1.0,
            feature_std,
        }
    }

    #[test]
    fn both_collapses_are_recognized_and_a_spread_output_is_healthy() {
        let apart = [1.0, 2.0, -1.0, 0.5];
        let healthy = [0.9, 0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.8];
        assert_eq!(vitals(&healthy, &apart).verdict(4), Verdict::Healthy);
        assert_eq!(vitals(&[0.25; 8], &apart).verdict(4), Verdict::Uniform);
        let one_hot = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(vitals(&one_hot, &apart).verdict(4), Verdict::Constant);
        assert_eq!(
            vitals(&healthy, &[1.0, 2.0, 1.0, 2.0]).verdict(4),
            Verdict::Constant
        );
    }

    #[test]
    fn the_alarm_sounds_once_for_each_collapse_and_again_after_a_recovery() {
        use Verdict::{Constant, Healthy, Undecided, Uniform};
        let mut alarm = Alarm::default();
        let verdicts = [
            (Healthy, false),
            (Uniform, true),
            (Constant, false),
            (Undecided, false),
            (Uniform, false),
            (Healthy, false),
            (Undecided, false),
            (Constant, true),
        ];
        for (place, (verdict, sounds)) in verdicts.into_iter().enumerate() {
            assert_eq!(alarm.sounds(verdict), sounds, "{place}: {verdict:?}");
        }
    }

    #[test]
    fn one_scan_alone_is_not_judged() {
        let alone = vitals(&[0.9, 0.1, 0.0, 0.0], &[1.0, 2.0]);
        assert_eq!(alone.mean_entropy, alone.entropy, "as in a collapse");
        assert_eq!(alone.verdict(4), Verdict::Undecided);
    }

    #[test]
    fn entropy_and_spread_have_their_textbook_values() {
        let (entropy, mean_entropy) = entropies(&[1.0, 0.0, 0.0, 1.0], 2);
        assert_eq!(entropy, 0.0);
        assert!((mean_entropy - 2f64.ln()).abs() < 1e-12);
        assert!((spread(&[0.0, 1.0, 2.0, 5.0], 2) - 1.5).abs() < 1e-12);
    }
}
