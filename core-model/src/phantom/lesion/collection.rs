//! Blood between skull and brain: subdural crescents and epidural lenses.

use super::super::anatomy::Layers;
use super::super::geometry::{Vec3, Width, inside, mix, ramp, vec3};
use super::super::population::Disease;
use super::super::random::Stream;

/// Planes of the coronal and the lambdoid suture, mm from the middle of the head.
const CORONAL_Y: f32 = 14.0;
const LAMBDOID_Y: f32 = -56.0;
/// Radius used to turn angles on the skull into lengths, mm.
const SKULL_RADIUS: f32 = 72.0;

/// A collection of blood under the skull.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    /// −1 left, 1 right.
    pub(crate) side: f32,
    /// Largest thickness, mm.
    pub(crate) thickness: f32,
    toward: Vec3,
    hu: f32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A crescent over the hemisphere: crosses sutures, stops at the falx and the tentorium.
    /// Old blood settles: `level_y` separates serum from cells, `serum_hu` lies above.
    Crescent {
        edge: f32,
        level_y: f32,
        serum_hu: f32,
    },
    /// A lens that strips the dura: stops at the sutures.
    Lens {
        radius: f32,
        front_y: f32,
        back_y: f32,
        swirl: f32,
    },
}

impl Collection {
    pub(crate) fn subdural(stream: &mut Stream, side: f32) -> Self {
        let thickness = stream.uniform(7.0, 17.0);
        let toward = vec3(
            stream.uniform(0.75, 1.0) * side,
            stream.uniform(-0.45, 0.5),
            stream.uniform(0.05, 0.6),
        );
        // Acute, subacute (as dense as the cortex), chronic (serum over settled cells).
        let stage = stream.pick([0.65, 0.15, 0.2]);
        let hu = [
            stream.uniform(60.0, 75.0),
            stream.uniform(40.0, 50.0),
            stream.uniform(38.0, 60.0),
        ];
        let settled = stage == 2;
        let kind = Kind::Crescent {
            edge: stream.uniform(-0.1, 0.35),
            level_y: if settled {
                stream.uniform(-50.0, 10.0)
            } else {
                200.0
            },
            serum_hu: stream.uniform(14.0, 26.0),
        };
        Self {
            side,
            thickness,
            toward: toward.unit(),
            hu: hu[stage],
            kind,
        }
    }

    pub(crate) fn epidural(stream: &mut Stream, side: f32) -> Self {
        let thickness = stream.uniform(12.0, 26.0);
        // Under the temporal squama or the parietal bone, the frontal bone, the occipital bone.
        let (y, z, front_y, back_y) = match stream.pick([0.7, 0.2, 0.1]) {
            0 => (
                stream.uniform(-0.45, -0.05),
                stream.uniform(-0.1, 0.5),
                CORONAL_Y,
                LAMBDOID_Y,
            ),
            1 => (
                stream.uniform(0.6, 1.1),
                stream.uniform(0.0, 0.5),
                200.0,
                CORONAL_Y,
            ),
            _ => (
                stream.uniform(-1.9, -1.4),
                stream.uniform(-0.2, 0.3),
                LAMBDOID_Y,
                -200.0,
            ),
        };
        let toward = vec3(side, y, z).unit();
        let kind = Kind::Lens {
            radius: stream.uniform(26.0, 42.0),
            front_y,
            back_y,
            swirl: if stream.chance(0.25) {
                stream.uniform(8.0, 18.0)
            } else {
                0.0
            },
        };
        Self {
            side,
            thickness,
            toward,
            hu: stream.uniform(60.0, 76.0),
            kind,
        }
    }

    /// Direction of its middle.
    pub(crate) const fn toward(&self) -> Vec3 {
        self.toward
    }

    /// The disease it is a sign of.
    pub(crate) const fn disease(&self) -> Disease {
        match self.kind {
            Kind::Crescent { .. } => Disease::Sdh,
            Kind::Lens { .. } => Disease::Edh,
        }
    }

    /// How far it shifts the midline to the other side, mm, as a share of its thickness.
    pub(crate) fn shift(&self, share: f32) -> f32 {
        -self.side * share * (self.thickness - 4.0).max(0.0)
    }

    /// Thickness under this point of the skull, mm.
    #[inline]
    pub(crate) fn thickness_at(&self, p: Vec3, at: &Layers) -> f32 {
        let facing = at.direction.dot(self.toward);
        match self.kind {
            Kind::Crescent { edge, .. } => {
                if facing <= edge {
                    return 0.0;
                }
                let crescent = ((facing - edge) * (1.0 / 0.55)).min(1.0).sqrt();
                let falx = ramp(p.x * self.side, 1.0, 8.0);
                self.thickness * crescent * falx * ramp(p.z, -42.0, -26.0)
            }
            Kind::Lens {
                radius,
                front_y,
                back_y,
                ..
            } => {
                if facing <= 0.5 {
                    return 0.0;
                }
                let away = (at.direction - self.toward).length() * (SKULL_RADIUS / radius);
                let lens = (1.0 - away * away).max(0.0);
                let sutures = ramp(front_y - p.y, -1.0, 2.5) * ramp(p.y - back_y, -1.0, 2.5);
                let midline = ramp(p.x * self.side, 1.0, 6.0);
                self.thickness * lens * sutures * midline
            }
        }
    }

    /// Share of a cell of width `h` that is this blood, and its HU. `depth` is that below the
    /// inner table, `thickness` that of [`thickness_at`](Self::thickness_at).
    #[inline]
    pub(crate) fn blood(&self, p: Vec3, depth: f32, thickness: f32, h: Width) -> (f32, f32) {
        if thickness < 0.4 {
            return (0.0, self.hu);
        }
        let share = inside(depth - thickness, h);
        let hu = match self.kind {
            Kind::Crescent {
                level_y, serum_hu, ..
            } => mix(self.hu, serum_hu, ramp(p.y - level_y, -4.0, 4.0)),
            Kind::Lens { swirl, .. } => self.hu - swirl * ramp(depth / thickness, 0.2, 0.6),
        };
        (share, hu)
    }
}
