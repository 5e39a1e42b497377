//! Cubic B-spline interpolation of many parallel lines at once.
//!
//! The recipe of `scipy.ndimage.map_coordinates(order=3, mode="nearest")` (Unser 1993): a recursive
//! prefilter turns samples into spline coefficients, four basis weights evaluate them. Beyond its
//! ends a line continues with its end values.

/// Lines filtered side by side, one vector register each.
pub(super) const LANES: usize = 16;

/// Samples a line is continued on each side, as scipy does.
pub(super) const PADDING: usize = 12;

/// Coefficients of [`LANES`] lines: one row of lanes per sample, [`PADDING`] rows on each side.
pub(super) struct Lines {
    rows: Vec<[f64; LANES]>,
    len: usize,
}

impl Lines {
    /// Room for lines of `len` samples.
    pub(super) fn new(len: usize) -> Self {
        Self {
            rows: vec![[0.0; LANES]; len + 2 * PADDING],
            len,
        }
    }

    /// Where to put the samples, one row per index.
    pub(super) fn samples_mut(&mut self) -> &mut [[f64; LANES]] {
        &mut self.rows[PADDING..PADDING + self.len]
    }

    /// Continues the lines past their ends and turns samples into coefficients.
    pub(super) fn prefilter(&mut self) {
        let (first, last) = (self.rows[PADDING], self.rows[PADDING + self.len - 1]);
        self.rows[..PADDING].fill(first);
        self.rows[PADDING + self.len..].fill(last);

        // Both recursions start from the state they reach on an endless line of the end value.
        let mut state = first.map(|x| GAIN * x / (1.0 - POLE));
        for row in &mut self.rows {
            for (x, s) in row.iter_mut().zip(&mut state) {
                *s = GAIN * *x + POLE * *s;
                *x = *s;
            }
        }
        for (s, &end) in state.iter_mut().zip(&last) {
            let steady = GAIN * end / (1.0 - POLE);
            *s = -(steady * POLE / (1.0 - POLE) + (*s - steady) * POLE / (1.0 - POLE * POLE));
        }
        let end = self.rows.len() - 1;
        self.rows[end] = state;
        for row in self.rows[..end].iter_mut().rev() {
            for (x, s) in row.iter_mut().zip(&mut state) {
                *s = POLE * (*s - *x);
                *x = *s;
            }
        }
    }

    /// The spline of every lane at one place.
    pub(super) fn at(&self, tap: &Tap) -> [f64; LANES] {
        let [a, b, c, d] = tap.weights;
        let rows = &self.rows[tap.first..tap.first + 4];
        let mut out = [0.0; LANES];
        for (lane, value) in out.iter_mut().enumerate() {
            *value = a * rows[0][lane] + b * rows[1][lane] + c * rows[2][lane] + d * rows[3][lane];
        }
        out
    }

    /// The spline of one lane at one place.
    pub(super) fn lane_at(&self, tap: &Tap, lane: usize) -> f64 {
        let rows = &self.rows[tap.first..tap.first + 4];
        rows.iter()
            .zip(tap.weights)
            .map(|(row, weight)| weight * row[lane])
            .sum()
    }
}

/// Four neighboring coefficients and their weights.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    first: usize,
    weights: [f64; 4],
}

impl Tap {
    /// For the coordinate `x`, in samples, on lines of `len` samples.
    pub(super) fn new(x: f64, len: usize) -> Self {
        // Three rows of padding suffice for the support; further out the line is constant.
        let reach = (PADDING - 2) as f64;
        let x = x.clamp(-reach, (len - 1) as f64 + reach);
        let cell = x.floor();
        let t = x - cell;
        let u = 1.0 - t;
        Self {
            first: (cell + (PADDING - 1) as f64) as usize,
            weights: [
                u * u * u / 6.0,
                (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
                (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0,
                t * t * t / 6.0,
            ],
        }
    }
}

/// The root of the cubic B-spline's interpolation filter: √3 − 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// (1 − z)(1 − 1/z): makes the filtered line interpolate its samples.
const GAIN: f64 = 6.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(samples: &[f64]) -> Lines {
        let mut lines = Lines::new(samples.len());
        for (row, &x) in lines.samples_mut().iter_mut().zip(samples) {
            *row = [x; LANES];
        }
        lines.prefilter();
        lines
    }

    #[test]
    fn the_spline_passes_through_its_samples() {
        let samples = [3.0, -1000.0, 40.0, 900.0, 35.0, 34.0];
        let lines = filtered(&samples);
        for (i, &x) in samples.iter().enumerate() {
            let value = lines.at(&Tap::new(i as f64, samples.len()))[LANES - 1];
            assert!((value - x).abs() < 1e-9, "sample {i}: {value} is not {x}");
            let one = lines.lane_at(&Tap::new(i as f64, samples.len()), 3);
            assert!((one - x).abs() < 1e-9);
        }
    }

    #[test]
    fn a_constant_line_stays_constant_far_beyond_its_ends() {
        let lines = filtered(&[7.5; 3]);
        for x in [-1e9, -9.7, -0.3, 0.0, 1.9, 2.2, 11.0, 1e9] {
            assert!((lines.at(&Tap::new(x, 3))[0] - 7.5).abs() < 1e-12, "at {x}");
        }
    }

    #[test]
    fn a_step_rings_as_the_published_chain_does() {
        let samples: Vec<f64> = (0..40)
            .map(|i| if i < 20 { -1000.0 } else { 1000.0 })
            .collect();
        let lines = filtered(&samples);
        let peak = (0..3900)
            .map(|i| lines.at(&Tap::new(f64::from(i) / 100.0, 40))[0])
            .fold(f64::MIN, f64::max);
        assert!((peak - 1215.0).abs() < 1.0, "peak {peak} HU");
    }

    #[test]
    fn a_line_of_one_sample_is_constant() {
        let lines = filtered(&[-12.0]);
        assert!((lines.at(&Tap::new(0.4, 1))[0] + 12.0).abs() < 1e-12);
    }
}
