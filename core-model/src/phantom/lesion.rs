//! Diseases as a radiologist sees them: where they sit, how dense they are, what they displace.

mod collection;
mod mass;

use super::anatomy::{Habitus, Layers, Swelling, Tissue};
use super::geometry::{Vec3, Width, bell, inside, mix, ramp, vec3};
use super::population::{Disease, Person};
use super::random::Stream;

use collection::Collection;
use mass::{Mark, Mass};

/// Largest midline shift, mm.
const MOST_SHIFT: f32 = 14.0;

/// Height over which settled blood passes into fluid.
const LEVEL: Width = Width::new(2.0);

/// Midline shift from which the brain is pressed, mm.
const PRESSES_SHIFT: f32 = 2.5;

/// All lesions of one patient and what they do to the brain as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lesions {
    masses: Vec<Mass>,
    collections: Vec<Collection>,
    cisternal: Option<CisternalBlood>,
    ventricular: Option<VentricularBlood>,
    /// Midline shift, mm, positive to the right.
    pub(crate) shift: f32,
}

/// Blood in the sulci and cisterns (SAH).
#[derive(Clone, Copy, Debug)]
struct CisternalBlood {
    center: Vec3,
    inverse_radius: f32,
    hu: f32,
}

/// Blood in the ventricles (IVH).
#[derive(Clone, Copy, Debug)]
struct VentricularBlood {
    hu: f32,
    /// Supine patients: blood lies behind this plane.
    level_y: f32,
    /// One side only (−1, 1), or both (0), filled throughout.
    cast: Option<f32>,
}

/// A cell of the brain's space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) hu: f32,
    pub(crate) lesion: Option<Disease>,
}

/// The shape of the brain that a person's age and diseases bring.
pub(crate) fn habitus(stream: &mut Stream, person: &Person) -> Habitus {
    let age = f32::from(person.age);
    let old = ((age - 40.0) / 50.0).clamp(0.0, 1.0);
    let mut habitus = Habitus {
        atrophy: old * stream.uniform(0.3, 0.9) + stream.uniform(0.0, 0.12),
        ..Habitus::default()
    };
    if person.diseases.contains(Disease::Adrd) {
        habitus.atrophy += stream.uniform(0.45, 1.15);
        habitus.temporal_atrophy = stream.uniform(0.35, 1.0);
    }
    if person.diseases.contains(Disease::Hydrocephalus) {
        habitus.hydrocephalus = stream.uniform(0.4, 1.0);
    }
    if person.diseases.contains(Disease::Ivh) {
        // Blood distends what it fills.
        habitus.hydrocephalus = habitus.hydrocephalus.max(stream.uniform(0.1, 0.3));
    }
    habitus
}

impl Lesions {
    pub(crate) fn draw(
        stream: &mut Stream,
        person: &Person,
        habitus: &mut Habitus,
        swellings: &mut Vec<Swelling>,
    ) -> Self {
        let has = |disease| person.diseases.contains(disease);
        let mut lesions = Self::default();
        let edema = has(Disease::Edema);
        if has(Disease::Iph) {
            let side = stream.side();
            lesions.masses.push(Mass::hematoma(stream, side, edema));
            if stream.chance(0.12) {
                lesions.masses.push(Mass::hematoma(stream, -side, edema));
            }
        }
        if has(Disease::Tumor) {
            // Most are single; metastases are several.
            let count = [1, 2, 3][stream.pick([0.75, 0.15, 0.10])];
            for _ in 0..count {
                let side = stream.side();
                lesions.masses.push(Mass::tumor(stream, side, edema));
            }
        }
        let explained = has(Disease::Iph) || has(Disease::Tumor);
        if edema && !(explained && stream.chance(0.75)) {
            if stream.chance(0.8) {
                let side = stream.side();
                lesions.masses.insert(0, Mass::edema(stream, side));
            } else {
                habitus.swelling = stream.uniform(0.6, 1.0);
                habitus.atrophy *= 0.3;
            }
        }
        if stream.chance(0.02 + 0.08 * f64::from(person.age) / 100.0) {
            let side = stream.side();
            lesions.masses.insert(0, Mass::scar(stream, side));
        }
        if has(Disease::Sdh) {
            let side = stream.side();
            lesions.collections.push(Collection::subdural(stream, side));
            if stream.chance(0.15) {
                lesions
                    .collections
                    .push(Collection::subdural(stream, -side));
            }
        }
        if has(Disease::Edh) {
            let side = stream.side();
            lesions.collections.push(Collection::epidural(stream, side));
        }
        lesions.cisternal = has(Disease::Sah).then(|| CisternalBlood::draw(stream));
        lesions.ventricular = has(Disease::Ivh).then(|| VentricularBlood::draw(stream));

        for collection in &lesions.collections {
            // Blows that bleed under the skull swell the scalp; some swell only the scalp.
            let likely = if collection.disease() == Disease::Edh {
                0.7
            } else {
                0.25
            };
            if stream.chance(likely) {
                let thickness = stream.uniform(3.0, 8.0);
                swellings.push(Swelling {
                    toward: collection.toward(),
                    thickness,
                });
            }
        }
        if stream.chance(0.08) {
            let side = stream.side();
            let toward = vec3(side, stream.uniform(-0.8, 0.8), stream.uniform(0.0, 0.8)).unit();
            swellings.push(Swelling {
                toward,
                thickness: stream.uniform(3.0, 8.0),
            });
        }
        let mut shift = stream.normal(0.0, 0.4);
        for mass in &lesions.masses {
            shift += mass.shift(stream.uniform(0.3, 0.7));
        }
        for collection in &lesions.collections {
            shift += collection.shift(stream.uniform(0.2, 0.6));
        }
        lesions.shift = shift.clamp(-MOST_SHIFT, MOST_SHIFT);
        lesions
    }

    /// Sides with blood: left, right.
    pub(crate) fn bleeding_sides(&self) -> [bool; 2] {
        let mut sides = [false; 2];
        let mut mark = |x: f32| sides[usize::from(x > 0.0)] = true;
        for mass in &self.masses {
            if mass.disease() == Some(Disease::Iph) {
                mark(mass.center.x);
            }
        }
        for collection in &self.collections {
            mark(collection.side);
        }
        if let Some(blood) = &self.cisternal {
            if blood.center.x.abs() < 10.0 {
                mark(-1.0);
                mark(1.0);
            } else {
                mark(blood.center.x);
            }
        }
        if let Some(blood) = &self.ventricular {
            let side = blood.cast.unwrap_or(0.0);
            if side <= 0.0 {
                mark(-1.0);
            }
            if side >= 0.0 {
                mark(1.0);
            }
        }
        sides
    }

    /// Whether something presses on the brain enough to be reported.
    pub(crate) fn press(&self) -> bool {
        self.shift.abs() >= PRESSES_SHIFT || self.masses.iter().any(Mass::presses)
    }

    /// Thickness of blood between skull and brain at a point: what pushes the cortex inward.
    #[inline]
    pub(crate) fn collection_thickness(&self, p: Vec3, at: &Layers) -> f32 {
        self.collections
            .iter()
            .map(|c| c.thickness_at(p, at))
            .fold(0.0, f32::max)
    }

    /// Where the tissue at `p` lay before anything grew, and how far sulci are closed there.
    #[inline]
    pub(crate) fn displace(&self, p: Vec3, thickness: f32) -> (Vec3, f32) {
        let (x, y, z) = (
            p.x * (1.0 / 60.0),
            (p.y - 5.0) * (1.0 / 75.0),
            (p.z - 8.0) * (1.0 / 55.0),
        );
        let moved = self.shift * bell((x * x + y * y + z * z).sqrt());
        let mut q = vec3(p.x - moved, p.y, p.z);
        let pressed_side = -self.shift.signum() * p.x;
        let mut effaced = 0.5 * ramp(self.shift.abs(), 2.5, 9.0) * ramp(pressed_side, 5.0, 20.0);
        effaced = effaced.max(0.85 * ramp(thickness, 1.0, 8.0));
        for mass in &self.masses {
            let (before, closed) = mass.displace(q);
            q = before;
            effaced = effaced.max(closed);
        }
        (q, effaced)
    }

    /// Turns the composition of a cell into HU, lesions included. `p` is in head coordinates,
    /// `dura` the depth below the inner table.
    #[inline]
    pub(crate) fn paint(
        &self,
        p: Vec3,
        at: &Layers,
        tissue: &Tissue,
        parenchyma_hu: f32,
        csf_hu: f32,
        h: Width,
    ) -> Cell {
        let mut lesion = None;
        let brain = (1.0 - tissue.subarachnoid.max(tissue.ventricle)).max(0.0);
        let mut hu = parenchyma_hu - 9.0 * tissue.seepage * (1.0 - tissue.gray);
        let white = 1.0 - tissue.gray;
        for mass in &self.masses {
            let marked: Mark = mass.mark(p, hu, brain, white, h);
            hu = marked.hu;
            lesion = marked.lesion.or(lesion);
        }

        let mut around_hu = csf_hu;
        let mut around = tissue.subarachnoid;
        if let Some(blood) = &self.cisternal {
            let share = blood.share(p);
            around_hu = mix(csf_hu, blood.hu, share);
            around *= 1.0 + 0.8 * share;
            if share * around > 0.35 {
                lesion = Some(Disease::Sah);
            }
        }
        hu = mix(hu, around_hu, around.min(1.0));
        if tissue.ventricle > 0.0 {
            let share = self
                .ventricular
                .as_ref()
                .map_or(0.0, |blood| blood.share(p));
            let within_hu = self
                .ventricular
                .map_or(csf_hu, |blood| mix(csf_hu, blood.hu, share));
            hu = mix(hu, within_hu, tissue.ventricle);
            if share * tissue.ventricle > 0.5 {
                lesion = Some(Disease::Ivh);
            }
        }
        hu = mix(hu, tissue.dense_hu.max(hu), tissue.dense);
        for collection in &self.collections {
            let thickness = collection.thickness_at(p, at);
            let (share, blood_hu) = collection.blood(p, at.vault, thickness, h);
            hu = mix(hu, blood_hu, share);
            if share > 0.5 {
                lesion = Some(collection.disease());
            }
        }
        Cell { hu, lesion }
    }
}

impl CisternalBlood {
    fn draw(stream: &mut Stream) -> Self {
        // A burst aneurysm floods the basal cisterns; a blow bleeds into some sulci.
        let (center, radius) = if stream.chance(0.6) {
            let x = stream.uniform(-8.0, 8.0);
            (
                vec3(x, stream.uniform(2.0, 14.0), -22.0),
                stream.uniform(45.0, 70.0),
            )
        } else {
            let side = stream.side();
            let x = side * stream.uniform(35.0, 55.0);
            (
                vec3(x, stream.uniform(-45.0, 40.0), stream.uniform(0.0, 45.0)),
                stream.uniform(28.0, 45.0),
            )
        };
        Self {
            center,
            inverse_radius: 1.0 / radius,
            hu: stream.uniform(52.0, 72.0),
        }
    }

    #[inline]
    fn share(&self, p: Vec3) -> f32 {
        let distance = (p - self.center).length() * self.inverse_radius;
        1.0 - ramp(distance, 0.7, 1.15)
    }
}

impl VentricularBlood {
    fn draw(stream: &mut Stream) -> Self {
        let cast = stream
            .chance(0.45)
            .then(|| [0.0, -1.0, 1.0][stream.pick([0.4, 0.3, 0.3])]);
        let level_y = if cast.is_some() {
            -40.0
        } else {
            stream.uniform(-38.0, -14.0)
        };
        Self {
            hu: stream.uniform(56.0, 76.0),
            level_y,
            cast,
        }
    }

    #[inline]
    fn share(&self, p: Vec3) -> f32 {
        // A sharp level: cells settle under the fluid.
        let settled = inside(p.y - self.level_y, LEVEL);
        match self.cast {
            Some(side) => {
                settled.max(ramp(p.x * side, -3.0, 0.0).max(f32::from(side == 0.0)) * 0.9)
            }
            None => settled,
        }
    }
}
