//! Lesions within the tissue: hematomas, tumors, regions of edema, old infarcts.

use super::super::geometry::{Ellipsoid, Vec3, Width, bell, inside, mix, ramp, sine, vec3};
use super::super::population::Disease;
use super::super::random::Stream;

/// A lesion within the tissue of the brain.
#[derive(Clone, Debug)]
pub(crate) struct Mass {
    /// Middle, in head coordinates.
    pub(crate) center: Vec3,
    /// Mean radius, mm.
    pub(crate) radius: f32,
    /// How far it pushes its surroundings, relative to its radius.
    push: f32,
    solid: Ellipsoid,
    wobble: f32,
    phases: [f32; 4],
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Blood of this HU; lower where it settles. A rim of serum or edema around it.
    Hematoma { hu: f32, rim: f32, rim_hu: f32 },
    /// Solid tissue with a center of another density and edema along the white matter.
    Tumor {
        hu: f32,
        core: f32,
        core_hu: f32,
        halo: f32,
        halo_hu: f32,
    },
    /// Water in the tissue; `white_only` spares the cortex.
    Edema { hu: f32, white_only: bool },
    /// An old infarct: fluid where tissue was.
    Scar { hu: f32 },
}

/// Where in the brain a mass may sit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Deep,
    Lobar,
    Cerebellar,
}

impl Place {
    /// A point at such a place, on the given side.
    pub(crate) fn point(self, stream: &mut Stream, side: f32) -> Vec3 {
        match self {
            Self::Deep => vec3(
                stream.uniform(17.0, 30.0),
                stream.uniform(-18.0, 16.0),
                stream.uniform(0.0, 14.0),
            ),
            Self::Lobar => {
                let toward = vec3(
                    stream.uniform(0.35, 1.0),
                    stream.uniform(-0.9, 0.9),
                    stream.uniform(-0.05, 0.75),
                );
                let depth = stream.uniform(0.50, 0.66);
                let unit = toward.unit();
                vec3(unit.x * 68.0, unit.y * 86.0, unit.z * 76.0) * depth
            }
            Self::Cerebellar => vec3(
                stream.uniform(12.0, 26.0),
                stream.uniform(-58.0, -44.0),
                stream.uniform(-48.0, -38.0),
            ),
        }
        .on_side(side)
    }
}

/// What one mass does to a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) hu: f32,
    pub(crate) lesion: Option<Disease>,
}

impl Mass {
    pub(crate) fn hematoma(stream: &mut Stream, side: f32, edema: bool) -> Self {
        let place = [Place::Deep, Place::Lobar, Place::Cerebellar][stream.pick([0.5, 0.4, 0.1])];
        let radius = if matches!(place, Place::Cerebellar) {
            stream.uniform(9.0, 15.0)
        } else {
            stream.uniform(9.0, 22.0)
        };
        let acute = stream.chance(0.8);
        let hu = if acute {
            stream.uniform(60.0, 78.0)
        } else {
            stream.uniform(46.0, 58.0)
        };
        let rim = if edema {
            stream.uniform(7.0, 12.0)
        } else {
            stream.uniform(1.5, 4.0)
        };
        let kind = Kind::Hematoma {
            hu,
            rim,
            rim_hu: stream.uniform(17.0, 23.0),
        };
        let center = place.point(stream, side);
        Self::new(stream, center, radius, 0.30, 0.3, kind)
    }

    pub(crate) fn tumor(stream: &mut Stream, side: f32, edema: bool) -> Self {
        let place = [Place::Deep, Place::Lobar, Place::Cerebellar][stream.pick([0.2, 0.65, 0.15])];
        let radius = stream.uniform(11.0, 22.0);
        let core = stream.uniform(0.0, 0.8);
        let kind = Kind::Tumor {
            hu: stream.uniform(44.0, 58.0),
            core,
            core_hu: stream.uniform(12.0, 24.0),
            halo: if edema {
                stream.uniform(8.0, 16.0)
            } else {
                stream.uniform(0.0, 3.0)
            },
            halo_hu: stream.uniform(15.0, 20.0),
        };
        let center = place.point(stream, side);
        Self::new(stream, center, radius, 0.18, 0.3, kind)
    }

    pub(crate) fn edema(stream: &mut Stream, side: f32) -> Self {
        let place = [Place::Deep, Place::Lobar][stream.pick([0.25, 0.75])];
        let kind = Kind::Edema {
            hu: stream.uniform(14.0, 22.0),
            white_only: stream.chance(0.4),
        };
        let radius = stream.uniform(19.0, 34.0);
        let center = place.point(stream, side);
        Self::new(stream, center, radius, 0.3, 0.18, kind)
    }

    pub(crate) fn scar(stream: &mut Stream, side: f32) -> Self {
        let place = [Place::Deep, Place::Lobar][stream.pick([0.3, 0.7])];
        let kind = Kind::Scar {
            hu: stream.uniform(8.0, 16.0),
        };
        let radius = stream.uniform(6.0, 14.0);
        let center = place.point(stream, side);
        Self::new(stream, center, radius, 0.35, -0.1, kind)
    }

    fn new(
        stream: &mut Stream,
        center: Vec3,
        radius: f32,
        wobble: f32,
        push: f32,
        kind: Kind,
    ) -> Self {
        let mut axis = || radius * stream.uniform(0.8, 1.25);
        let semi_axes = vec3(axis(), axis(), axis());
        Self {
            center,
            radius,
            push,
            solid: Ellipsoid::new(center, semi_axes),
            wobble,
            phases: std::array::from_fn(|_| stream.phase()),
            kind,
        }
    }

    /// The disease it is a sign of.
    pub(crate) const fn disease(&self) -> Option<Disease> {
        match self.kind {
            Kind::Hematoma { .. } => Some(Disease::Iph),
            Kind::Tumor { .. } => Some(Disease::Tumor),
            Kind::Edema { .. } => Some(Disease::Edema),
            Kind::Scar { .. } => None,
        }
    }

    /// How far it shifts the midline to the other side, mm.
    pub(crate) fn shift(&self, share: f32) -> f32 {
        let free = if matches!(self.kind, Kind::Edema { .. }) {
            16.0
        } else {
            9.0
        };
        let lateral = if self.center.z < -30.0 {
            0.0
        } else {
            -self.center.x.signum()
        };
        lateral * share * (self.radius - free).max(0.0) * self.push.max(0.0) * 3.0
    }

    /// Whether it is large enough to press on its surroundings visibly.
    pub(crate) fn presses(&self) -> bool {
        self.push * self.radius > 4.0
    }

    /// Where the tissue at `p` lay before the mass grew, and how far it closes the sulci there.
    #[inline]
    pub(crate) fn displace(&self, p: Vec3) -> (Vec3, f32) {
        let away = p - self.center;
        let distance_squared = away.dot(away);
        if distance_squared > 9.0 * self.radius * self.radius {
            return (p, 0.0);
        }
        let distance = distance_squared.sqrt().max(1.0);
        let beyond = (distance - self.radius).max(0.0) / self.radius;
        let fall = bell(beyond * 1.3) * (1.0 - beyond * 0.5).max(0.0);
        let moved = away * (self.push * self.radius * fall / distance);
        (p - moved, if self.push > 0.0 { 0.9 * fall } else { 0.0 })
    }

    /// Marks a cell of width `h`: `tissue` is the share that is brain, `white` that of white matter
    /// in it.
    #[inline]
    pub(crate) fn mark(&self, p: Vec3, hu: f32, tissue: f32, white: f32, h: Width) -> Mark {
        let untouched = Mark { hu, lesion: None };
        let away = p - self.center;
        let reach = 2.2 * self.radius + 22.0;
        if away.dot(away) > reach * reach {
            return untouched;
        }
        let [a, b, c, d] = self.phases;
        let rough = sine(0.16 * p.x + 0.09 * p.y + a) * sine(0.15 * p.z - 0.08 * p.y + b)
            + 0.5 * sine(0.31 * p.y + c) * sine(0.29 * p.x + 0.2 * p.z + d);
        let distance = self.solid.distance(p) + self.wobble * self.radius * 0.55 * rough;
        match self.kind {
            Kind::Hematoma {
                hu: blood,
                rim,
                rim_hu,
            } => {
                let around = inside(distance - rim, h.at_least(2.5)) * tissue;
                let within = inside(distance, h) * tissue.max(0.6);
                let blood = blood + 4.0 * rough;
                Mark {
                    hu: mix(mix(hu, rim_hu, 0.85 * around), blood, within),
                    lesion: (within > 0.5).then_some(Disease::Iph),
                }
            }
            Kind::Tumor {
                hu: solid,
                core,
                core_hu,
                halo,
                halo_hu,
            } => {
                let around =
                    inside(distance - halo, h.at_least(4.0)) * tissue * (0.25 + 0.75 * white);
                let within = inside(distance, h) * tissue.max(0.6);
                let hollow = inside(distance + self.radius * (1.0 - core) * 0.9, h.at_least(2.0));
                let solid = solid + 3.0 * rough;
                let marked = mix(mix(hu, halo_hu, around), solid, within);
                let lesion = if within > 0.5 {
                    Some(Disease::Tumor)
                } else {
                    (around > 0.5 && halo > 5.0).then_some(Disease::Edema)
                };
                Mark {
                    hu: mix(marked, core_hu, hollow * within),
                    lesion,
                }
            }
            Kind::Edema {
                hu: water,
                white_only,
            } => {
                let spared = if white_only { 0.25 + 0.75 * white } else { 1.0 };
                let within = inside(distance, h.at_least(6.0)) * tissue * spared;
                Mark {
                    hu: mix(hu, water + 2.0 * rough, within),
                    lesion: (within > 0.5).then_some(Disease::Edema),
                }
            }
            Kind::Scar { hu: fluid } => {
                let within = inside(distance, h.at_least(2.0)) * ramp(tissue, 0.0, 0.5);
                Mark {
                    hu: mix(hu, fluid, within),
                    lesion: None,
                }
            }
        }
    }
}
