use super::CtError;

/// The map from voxel indices to millimeters in RAS space (NIfTI: +x right, +y anterior, +z superior).
///
/// Rows of a 3×4 matrix; column `a` is the step of one voxel along axis `a`, the last column the
/// place of voxel 0. Always finite and invertible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine([[f64; 4]; 3]);

impl Affine {
    /// Checks and takes a matrix.
    ///
    /// # Errors
    /// An entry that is not finite, an axis of length 0, or axes that lie in a plane.
    pub fn new(rows: [[f64; 4]; 3]) -> Result<Self, CtError> {
        for (row, entries) in rows.iter().enumerate() {
            for (column, &found) in entries.iter().enumerate() {
                if !found.is_finite() {
                    return Err(CtError::AffineNotFinite { row, column, found });
                }
            }
        }
        let affine = Self(rows);
        let spacing = affine.spacing();
        for (axis, &found) in spacing.iter().enumerate() {
            if !(found > 0.0 && found.is_finite()) {
                return Err(CtError::Spacing { axis, found });
            }
        }
        let determinant = determinant(affine.linear()) / spacing.iter().product::<f64>();
        if determinant.abs().is_nan() || determinant.abs() < MIN_DETERMINANT {
            return Err(CtError::AffineSingular { determinant });
        }
        Ok(affine)
    }

    /// Axes along x, y, z with `spacing` in mm, voxel 0 at `origin`.
    ///
    /// # Errors
    /// As [`Affine::new`].
    pub fn scaled(spacing: [f64; 3], origin: [f64; 3]) -> Result<Self, CtError> {
        let mut rows = [[0.0; 4]; 3];
        for axis in 0..3 {
            rows[axis][axis] = spacing[axis];
            rows[axis][3] = origin[axis];
        }
        Self::new(rows)
    }

    /// From the 3×3 linear part and the place of voxel 0.
    ///
    /// # Errors
    /// As [`Affine::new`].
    pub fn from_parts(linear: [[f64; 3]; 3], origin: [f64; 3]) -> Result<Self, CtError> {
        let mut rows = [[0.0; 4]; 3];
        for (row, entries) in rows.iter_mut().enumerate() {
            entries[..3].copy_from_slice(&linear[row]);
            entries[3] = origin[row];
        }
        Self::new(rows)
    }

    /// The 3×4 matrix.
    #[must_use]
    pub const fn rows(&self) -> [[f64; 4]; 3] {
        self.0
    }

    /// The 3×3 linear part.
    #[must_use]
    pub fn linear(&self) -> [[f64; 3]; 3] {
        self.0.map(|[x, y, z, _]| [x, y, z])
    }

    /// The place of voxel 0 in mm.
    #[must_use]
    pub fn origin(&self) -> [f64; 3] {
        self.0.map(|[_, _, _, t]| t)
    }

    /// The step of one voxel along `axis`, in mm.
    #[must_use]
    pub fn column(&self, axis: usize) -> [f64; 3] {
        self.0.map(|row| row[axis])
    }

    /// Length of one voxel step along each axis, in mm.
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        [0, 1, 2].map(|axis| self.column(axis).iter().map(|x| x * x).sum::<f64>().sqrt())
    }

    /// The rotation (or reflection) nearest to the axis directions: the orthogonal factor of the
    /// polar decomposition, by Newton's iteration X ← (X + X⁻ᵀ)/2.
    #[must_use]
    pub fn nearest_rotation(&self) -> [[f64; 3]; 3] {
        let spacing = self.spacing();
        let mut x = self
            .linear()
            .map(|row| [0, 1, 2].map(|c| row[c] / spacing[c]));
        for _ in 0..NEWTON_STEPS {
            let inverse_transposed = transpose(inverse(x));
            x = [0, 1, 2].map(|r| [0, 1, 2].map(|c| 0.5 * (x[r][c] + inverse_transposed[r][c])));
        }
        x
    }

    /// Where the (fractional) voxel index lies, in mm.
    #[must_use]
    pub fn apply(&self, index: [f64; 3]) -> [f64; 3] {
        self.0
            .map(|[x, y, z, t]| x * index[0] + y * index[1] + z * index[2] + t)
    }

    /// The (fractional) voxel index of a place in mm.
    #[must_use]
    pub fn index_of(&self, place: [f64; 3]) -> [f64; 3] {
        let origin = self.origin();
        let offset = [0, 1, 2].map(|axis| place[axis] - origin[axis]);
        inverse(self.linear()).map(|row| row.iter().zip(&offset).map(|(a, b)| a * b).sum())
    }

    /// Whether the axes are right-handed.
    #[must_use]
    pub fn is_right_handed(&self) -> bool {
        determinant(self.linear()) > 0.0
    }

    /// The same axes with voxel 0 moved to the (fractional) index `start`.
    pub(super) fn shifted(&self, start: [f64; 3]) -> Self {
        let origin = self.apply(start);
        let mut rows = self.0;
        for (row, &value) in rows.iter_mut().zip(&origin) {
            row[3] = value;
        }
        Self(rows)
    }
}

/// Enough for the worst matrix an [`Affine`] may hold: the iteration halves large singular values
/// until they are near 1, then converges quadratically.
const NEWTON_STEPS: usize = 40;

/// Below this share of a right-angled box of the same spacings, the axes count as lying in a plane.
const MIN_DETERMINANT: f64 = 1e-6;

/// Of a 3×3 matrix; negative for left-handed axes.
pub(super) fn determinant(m: [[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

/// The inverse of an invertible matrix (an [`Affine`]'s linear part always is).
pub(super) fn inverse(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let scale = 1.0 / determinant(m);
    let minor = |r: usize, c: usize| {
        let (r0, r1) = ((r + 1) % 3, (r + 2) % 3);
        let (c0, c1) = ((c + 1) % 3, (c + 2) % 3);
        m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0]
    };
    // The inverse is the transposed matrix of minors; cyclic indices carry the signs.
    [0, 1, 2].map(|r| [0, 1, 2].map(|c| minor(c, r) * scale))
}

pub(super) fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|r| [0, 1, 2].map(|c| (0..3).map(|k| a[r][k] * b[k][c]).sum()))
}

pub(super) fn transpose(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|r| [0, 1, 2].map(|c| m[c][r]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_times_matrix_is_identity() {
        let m = [[0.9, 0.1, -0.3], [0.2, -1.1, 0.4], [0.0, 0.5, 5.0]];
        let identity = product(inverse(m), m);
        for (r, row) in identity.iter().enumerate() {
            for (c, &value) in row.iter().enumerate() {
                assert!((value - f64::from(u8::from(r == c))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_index_of_a_voxels_place_is_its_index() {
        let rows = [
            [0.9, 0.1, -0.3, 7.0],
            [0.2, -1.1, 0.4, -3.0],
            [0.0, 0.5, 5.0, 100.0],
        ];
        let affine = Affine::new(rows).unwrap();
        let index = affine.index_of(affine.apply([3.0, -2.5, 11.0]));
        for (found, expected) in index.iter().zip([3.0, -2.5, 11.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn broken_matrices_are_refused_with_the_rule() {
        let nan = Affine::scaled([1.0, 1.0, f64::NAN], [0.0; 3]).unwrap_err();
        assert!(matches!(
            nan,
            CtError::AffineNotFinite {
                row: 2,
                column: 2,
                ..
            }
        ));
        let zero = Affine::scaled([1.0, 0.0, 1.0], [0.0; 3]).unwrap_err();
        assert_eq!(
            zero,
            CtError::Spacing {
                axis: 1,
                found: 0.0
            }
        );
        let flat = Affine::from_parts([[1.0, 1.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0]], [0.0; 3]);
        assert!(matches!(flat.unwrap_err(), CtError::AffineSingular { .. }));
    }
}
