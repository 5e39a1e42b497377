//! Points, soft indicator functions and the few solids anatomy is made of. Lengths are mm.

use std::ops::{Add, Mul, Sub};

/// A point or a vector in millimeters: x to the patient's right ear is negative, so that the axes
/// grow to the **R**ight, **A**nterior, **S**uperior as an RAS volume's indices do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vec3 {
    /// Right.
    pub x: f32,
    /// Anterior.
    pub y: f32,
    /// Superior.
    pub z: f32,
}

/// Shorthand for a [`Vec3`].
pub(crate) const fn vec3(x: f32, y: f32, z: f32) -> Vec3 {
    Vec3 { x, y, z }
}

impl Vec3 {
    /// Scalar product.
    pub(crate) fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    /// Euclidean length.
    pub(crate) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// The vector of length one in the same direction; the zero vector stays zero.
    pub(crate) fn unit(self) -> Self {
        self * (1.0 / self.length().max(1e-6))
    }

    /// The mirror image across the mid-sagittal plane when `side` is −1.
    pub(crate) fn on_side(self, side: f32) -> Self {
        vec3(self.x * side, self.y, self.z)
    }
}

impl Add for Vec3 {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        vec3(self.x + other.x, self.y + other.y, self.z + other.z)
    }
}

impl Sub for Vec3 {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        vec3(self.x - other.x, self.y - other.y, self.z - other.z)
    }
}

impl Mul<f32> for Vec3 {
    type Output = Self;

    fn mul(self, factor: f32) -> Self {
        vec3(self.x * factor, self.y * factor, self.z * factor)
    }
}

/// A rotation about the origin, as rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rotation([Vec3; 3]);

impl Rotation {
    /// Pitch about x, then roll about y, then yaw about z, in degrees.
    pub(crate) fn from_degrees(pitch: f32, roll: f32, yaw: f32) -> Self {
        let (sx, cx) = pitch.to_radians().sin_cos();
        let (sy, cy) = roll.to_radians().sin_cos();
        let (sz, cz) = yaw.to_radians().sin_cos();
        Self([
            vec3(cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
            vec3(sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
            vec3(-sy, cy * sx, cy * cx),
        ])
    }

    pub(crate) fn apply(&self, p: Vec3) -> Vec3 {
        vec3(self.0[0].dot(p), self.0[1].dot(p), self.0[2].dot(p))
    }
}

/// Width of a cell, mm, with its inverse: a volume asks for millions of shares, a division each
/// would be most of the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Width {
    mm: f32,
    per_mm: f32,
}

impl Width {
    #[inline]
    pub(crate) const fn new(mm: f32) -> Self {
        Self {
            mm,
            per_mm: 1.0 / mm,
        }
    }

    pub(crate) const fn mm(self) -> f32 {
        self.mm
    }

    /// This width, or `mm` where that is more: what is blurred in nature stays so in fine cells.
    #[inline]
    pub(crate) const fn at_least(self, mm: f32) -> Self {
        if self.mm < mm { Self::new(mm) } else { self }
    }
}

/// Share of a cell of width `h` that lies inside a surface at signed distance `d` (negative inside).
#[inline]
pub(crate) fn inside(d: f32, h: Width) -> f32 {
    (0.5 - d * h.per_mm).clamp(0.0, 1.0)
}

/// Share of a cell of width `h` at distance `d` from the middle of a sheet of the given thickness.
#[inline]
pub(crate) fn sheet(d: f32, thickness: f32, h: Width) -> f32 {
    let half = 0.5 * thickness;
    let low = (d - 0.5 * h.mm).max(-half);
    let high = (d + 0.5 * h.mm).min(half);
    ((high - low) * h.per_mm).clamp(0.0, 1.0)
}

/// 0 below `from`, 1 above `to`, a smooth cubic between.
#[inline]
pub(crate) fn ramp(x: f32, from: f32, to: f32) -> f32 {
    // Most limits are constants, and so is then the inverse.
    let t = ((x - from) * (1.0 / (to - from))).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bell of height 1 at 0 that falls to a quarter at 1: what an exponential would do, without one.
#[inline]
pub(crate) fn bell(d: f32) -> f32 {
    let q = 1.0 / (1.0 + d * d);
    q * q
}

/// `a` moved toward `b` by the share `t`.
#[inline]
pub(crate) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Sine to within 0.001, from additions and products only, so that every machine computes the same.
#[inline]
pub(crate) fn sine(x: f32) -> f32 {
    // Adding and removing 1.5·2²³ rounds to the nearest integer without a library call.
    const ROUND: f32 = 12_582_912.0;
    let turns = x * std::f32::consts::FRAC_1_PI * 0.5;
    let t = 2.0 * (turns - ((turns + ROUND) - ROUND));
    let parabola = 4.0 * t * (1.0 - t.abs());
    parabola * (0.775 + 0.225 * parabola.abs())
}

/// An axis-aligned ellipsoid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ellipsoid {
    center: Vec3,
    inverse: Vec3,
    smallest: f32,
    reach_squared: f32,
}

impl Ellipsoid {
    pub(crate) fn new(center: Vec3, semi_axes: Vec3) -> Self {
        let largest = semi_axes.x.max(semi_axes.y).max(semi_axes.z);
        let smallest = semi_axes.x.min(semi_axes.y).min(semi_axes.z);
        Self {
            center,
            inverse: vec3(1.0 / semi_axes.x, 1.0 / semi_axes.y, 1.0 / semi_axes.z),
            smallest,
            reach_squared: largest * largest,
        }
    }

    /// Distance to the center in units of the semi-axes: 1 on the surface.
    #[inline]
    pub(crate) fn level(&self, p: Vec3) -> f32 {
        let q = p - self.center;
        vec3(
            q.x * self.inverse.x,
            q.y * self.inverse.y,
            q.z * self.inverse.z,
        )
        .length()
    }

    /// Whether a point lies within.
    #[inline]
    pub(crate) fn holds(&self, p: Vec3) -> bool {
        let q = p - self.center;
        let level = vec3(
            q.x * self.inverse.x,
            q.y * self.inverse.y,
            q.z * self.inverse.z,
        );
        level.dot(level) < 1.0
    }

    /// Signed distance, exact along the shortest axis and conservative elsewhere.
    #[inline]
    pub(crate) fn distance(&self, p: Vec3) -> f32 {
        (self.level(p) - 1.0) * self.smallest
    }

    /// Soft indicator for cells of width `h`.
    #[inline]
    pub(crate) fn cover(&self, p: Vec3, h: Width) -> f32 {
        let q = p - self.center;
        if q.dot(q) > self.reach_squared + 4.0 * h.mm * (h.mm + self.smallest) + h.mm * 60.0 {
            return 0.0;
        }
        inside(self.distance(p), h)
    }
}

/// A tube between two points whose radius changes linearly from one end to the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tube {
    from: Vec3,
    along: Vec3,
    inverse_length_squared: f32,
    radius: f32,
    widening: f32,
}

impl Tube {
    pub(crate) fn new(from: Vec3, to: Vec3, radius: f32, end_radius: f32) -> Self {
        let along = to - from;
        Self {
            from,
            along,
            inverse_length_squared: 1.0 / along.dot(along).max(1e-6),
            radius,
            widening: end_radius - radius,
        }
    }

    /// Signed distance to the wall.
    #[inline]
    pub(crate) fn distance(&self, p: Vec3) -> f32 {
        let q = p - self.from;
        let t = (q.dot(self.along) * self.inverse_length_squared).clamp(0.0, 1.0);
        (q - self.along * t).length() - self.radius - self.widening * t
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_follows_the_library_within_a_thousandth() {
        for i in -2000..2000 {
            let x = i as f32 * 0.01;
            assert!((sine(x) - x.sin()).abs() < 1.2e-3, "at {x}");
        }
    }

    #[test]
    fn a_sheet_thinner_than_a_cell_covers_its_share_of_it() {
        let cell = Width::new(4.0);
        assert_eq!(sheet(0.0, 1.0, cell), 0.25);
        assert_eq!(sheet(10.0, 1.0, cell), 0.0);
        assert_eq!(sheet(0.0, 8.0, cell), 1.0);
    }

    #[test]
    fn a_rotation_keeps_lengths() {
        let p = vec3(3.0, -2.0, 5.0);
        let q = Rotation::from_degrees(10.0, -20.0, 30.0).apply(p);
        assert!((p.length() - q.length()).abs() < 1e-4);
    }
}
