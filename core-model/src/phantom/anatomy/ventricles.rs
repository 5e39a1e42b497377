//! The ventricles: lateral (frontal horn, body, atrium, occipital and temporal horn), third, fourth.

use super::super::geometry::{Ellipsoid, Tube, Vec3, Width, inside, vec3};

/// Sizes of the ventricles of one brain. Radii in mm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VentricleSizes {
    /// Radius of the bodies of the lateral ventricles.
    pub(crate) body: f32,
    /// Radius of the temporal horns.
    pub(crate) temporal_horn: f32,
    /// Width of the third ventricle.
    pub(crate) third: f32,
    /// Radius of the fourth ventricle.
    pub(crate) fourth: f32,
    /// Ratio of the right to the left side.
    pub(crate) asymmetry: f32,
}

/// The ventricles of one brain, in brain coordinates (before mass effect).
#[derive(Clone, Debug)]
pub(crate) struct Ventricles {
    sides: [Lateral; 2],
    third: Ellipsoid,
    fourth: Ellipsoid,
    reach: Ellipsoid,
}

#[derive(Clone, Debug)]
struct Lateral {
    tubes: [Tube; 6],
}

impl Ventricles {
    pub(crate) fn new(sizes: VentricleSizes) -> Self {
        let left = Lateral::new(sizes.body / sizes.asymmetry, sizes.temporal_horn);
        let right = Lateral::new(sizes.body * sizes.asymmetry, sizes.temporal_horn);
        let margin = sizes.body * 2.5;
        Self {
            sides: [left, right],
            third: Ellipsoid::new(vec3(0.0, -4.0, -3.0), vec3(0.5 * sizes.third, 14.0, 10.0)),
            fourth: Ellipsoid::new(
                vec3(0.0, -37.0, -42.0),
                vec3(1.5 * sizes.fourth, sizes.fourth, 1.8 * sizes.fourth),
            ),
            reach: Ellipsoid::new(
                vec3(0.0, -8.0, 2.0),
                vec3(40.0 + margin, 54.0 + margin, 34.0 + margin),
            ),
        }
    }

    /// Share of a cell of width `h` that is ventricle.
    #[inline]
    pub(crate) fn cover(&self, p: Vec3, h: Width) -> f32 {
        let mut share = self.fourth.cover(p, h);
        if self.reach.holds(p) {
            let lateral = &self.sides[usize::from(p.x > 0.0)];
            share = share.max(inside(lateral.distance(vec3(p.x.abs(), p.y, p.z)), h));
            share = share.max(self.third.cover(p, h));
        }
        share
    }
}

impl Lateral {
    fn new(body: f32, horn: f32) -> Self {
        // The inner wall stays at the midline: a wider ventricle grows outward, up and down.
        let x = 0.8 + body;
        let tip = vec3(x + 4.0, 24.0 + body, 8.0);
        let front = vec3(x, 16.0, 13.0);
        let back = vec3(x + 3.0, -16.0, 17.0);
        let atrium = vec3(20.0 + 0.6 * body, -32.0, 6.0);
        let occipital = vec3(18.0 + 0.5 * body, -50.0 - 0.6 * body, 3.0);
        let bend = vec3(31.0, -20.0, -14.0);
        let temporal = vec3(30.0, 2.0, -24.0);
        Self {
            tubes: [
                Tube::new(tip, front, 0.6 * body, 1.05 * body),
                Tube::new(front, back, 1.05 * body, 0.95 * body),
                Tube::new(back, atrium, 0.95 * body, 1.15 * body),
                Tube::new(atrium, occipital, 1.1 * body, 0.4 * body),
                Tube::new(atrium, bend, 0.8 * body, horn),
                Tube::new(bend, temporal, horn, 1.2 * horn),
            ],
        }
    }

    #[inline]
    fn distance(&self, p: Vec3) -> f32 {
        self.tubes
            .iter()
            .map(|tube| tube.distance(p))
            .fold(f32::MAX, f32::min)
    }
}
