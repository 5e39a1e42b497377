//! Everything outside the brain: skin, scalp, skull and its base, sinuses, orbits, face and neck.

use super::super::geometry::{Ellipsoid, Tube, Vec3, Width, bell, inside, mix, ramp, sine, vec3};
use super::super::random::Stream;

/// HU of air.
pub(crate) const AIR_HU: f32 = -1000.0;

/// Height below which face and neck reach beyond the cranium, mm.
const NECK_TOP: f32 = -15.0;

/// Depth below the vault's surface, mm, from which on the exact depth below the skin is of no account.
const DEEP: f32 = 25.0;

/// How much further out, per mm of a cell's width, a cell is surely air.
const AIR_PER_MM: f32 = 0.045;

/// Latent factors of one head outside the brain.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Semi-axes of the cranium at the skin: half width, half length, half height, mm.
    pub(crate) semi_axes: Vec3,
    inverse: Vec3,
    /// How much wider the back of the head is than the front.
    taper: f32,
    /// Left–right asymmetry of the vault.
    asymmetry: f32,
    scalp: f32,
    bone: f32,
    frontal_thickening: f32,
    occipital_thickening: f32,
    table_hu: f32,
    diploe_hu: f32,
    fat_hu: f32,
    muscle_hu: f32,
    frontal_sinus: Option<Ellipsoid>,
    base_rise: f32,
    swellings: Vec<Swelling>,
    face: Ellipsoid,
    petrous: Tube,
    cavities: Cavities,
    air_from: f32,
    texture: [f32; 3],
}

/// What is hollow, or holds no brain, in front of and below the skull base. Of pairs, the right one.
#[derive(Clone, Copy, Debug)]
struct Cavities {
    orbit: Ellipsoid,
    globe: Ellipsoid,
    nose: Ellipsoid,
    sphenoid: Ellipsoid,
    maxillary: Ellipsoid,
}

/// A scalp hematoma: where the blow fell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swelling {
    /// Direction from the middle of the head.
    pub(crate) toward: Vec3,
    /// Largest thickness added, mm.
    pub(crate) thickness: f32,
}

/// A point's place among the layers of the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layers {
    /// Depth below the skin, mm; negative in air. A lower bound where it is deep.
    skin: f32,
    /// Depth below the inner table or above the skull base, mm; negative outside the brain's space.
    pub(crate) dura: f32,
    /// Direction from the middle of the head.
    pub(crate) direction: Vec3,
    /// Depth below the inner table of the vault alone: where blood under the skull lies.
    pub(crate) vault: f32,
    bone_top: f32,
    bone: f32,
    base: f32,
}

impl Head {
    pub(crate) fn draw(stream: &mut Stream, male: bool, swellings: Vec<Swelling>) -> Self {
        let size = stream.normal(if male { 1.015 } else { 0.975 }, 0.025);
        let semi_axes = vec3(
            76.0 * size * stream.normal(1.0, 0.025),
            95.0 * size * stream.normal(1.0, 0.025),
            88.0 * size * stream.normal(1.0, 0.02),
        );
        let has_frontal_sinus = stream.chance(0.85);
        let sinus = vec3(
            stream.uniform(8.0, 22.0),
            stream.uniform(4.0, 7.0),
            stream.uniform(7.0, 14.0),
        );
        Self {
            semi_axes,
            inverse: vec3(1.0 / semi_axes.x, 1.0 / semi_axes.y, 1.0 / semi_axes.z),
            taper: stream.uniform(0.05, 0.13),
            asymmetry: stream.normal(0.0, 0.03),
            scalp: stream.uniform(4.0, 7.5),
            bone: stream.uniform(5.0, 8.5) + if male { 0.0 } else { 0.5 },
            frontal_thickening: stream.uniform(0.0, 0.35),
            occipital_thickening: stream.uniform(0.0, 0.25),
            table_hu: stream.uniform(1150.0, 1550.0),
            diploe_hu: stream.uniform(450.0, 850.0),
            fat_hu: stream.uniform(-95.0, -60.0),
            muscle_hu: stream.uniform(48.0, 62.0),
            frontal_sinus: has_frontal_sinus
                .then(|| Ellipsoid::new(vec3(0.0, semi_axes.y - 12.0, -6.0), sinus)),
            base_rise: stream.normal(0.0, 2.5),
            air_from: air_from(&semi_axes, &swellings),
            swellings,
            face: Ellipsoid::new(vec3(0.0, semi_axes.y - 50.0, -72.0), vec3(58.0, 47.0, 66.0)),
            petrous: Tube::new(vec3(13.0, -6.0, -38.0), vec3(60.0, -30.0, -38.0), 5.0, 9.5),
            cavities: Cavities::behind(semi_axes.y),
            texture: [stream.phase(), stream.phase(), stream.phase()],
        }
    }

    /// Whether a cell of width `h` is surely air: a quick answer for the corners around the vault,
    /// a third of a volume.
    #[inline]
    pub(crate) fn clears(&self, p: Vec3, level_squared: f32, h: Width) -> bool {
        p.z >= NECK_TOP && level_squared > self.air_from + AIR_PER_MM * h.mm()
    }

    /// Square of the distance to the middle of the head in units of the cranium's surface.
    #[inline]
    pub(crate) fn level_squared(&self, p: Vec3) -> f32 {
        let n = vec3(
            p.x * self.inverse.x,
            p.y * self.inverse.y,
            p.z * self.inverse.z,
        );
        let width = 1.0 + self.taper * (0.4 - n.y);
        let x = n.x * (2.0 - width);
        let y = n.y * (1.0 + self.asymmetry * n.x);
        x * x + y * y + n.z * n.z
    }

    /// Where a point lies among the layers, nothing for a cell of width `h` in the air. `p` is in
    /// head coordinates.
    #[inline(always)]
    pub(crate) fn layers(&self, p: Vec3, level_squared: f32, h: Width) -> Option<Layers> {
        let level = level_squared.sqrt() + 1e-3;
        let radius = p.length();
        let direction = p * (1.0 / (radius + 1.0));
        let vault = radius * (1.0 / level - 1.0);
        let skin = if vault < DEEP {
            self.below_skin(p, vault, direction)
        } else {
            vault
        };
        if skin < -h.mm() {
            return None;
        }
        let bone_top = vault - self.scalp;
        let front = direction.y.max(0.0);
        let back = (-direction.y).max(0.0);
        let bone =
            self.bone * (1.0 + self.frontal_thickening * front + self.occipital_thickening * back);
        let inner_table = bone_top - bone;
        let mut dura = inner_table;
        let mut base = f32::MAX;
        if p.z < 0.0 {
            base = (p.z - self.floor(p)) * 0.85;
            let petrous = self.petrous.distance(vec3(p.x.abs(), p.y, p.z));
            dura = dura.min(base).min(petrous);
        }
        Some(Layers {
            skin,
            dura,
            direction,
            vault: inner_table,
            bone_top,
            bone,
            base,
        })
    }

    /// Depth below the skin, mm: below the vault's, what swells over it, or the face's and neck's.
    #[inline]
    fn below_skin(&self, p: Vec3, vault: f32, direction: Vec3) -> f32 {
        let mut skin = vault;
        for swelling in &self.swellings {
            let distance = (direction - swelling.toward).length() * 2.6;
            skin += swelling.thickness * bell(distance);
        }
        if p.z < NECK_TOP {
            let neck = 58.0 - vec3(p.x, (p.y + 22.0) * 0.9, 0.0).length();
            skin = skin
                .max(neck - (p.z + 55.0).max(0.0))
                .max(-self.face.distance(p));
        }
        skin
    }

    /// Height of the inner skull base: anterior, middle and posterior fossa.
    fn floor(&self, p: Vec3) -> f32 {
        let side = p.x.abs();
        let middle = -50.0 + 20.0 * bell(side * (1.0 / 16.0));
        let anterior = -27.0 + 7.0 * ramp(side, 4.0, 26.0);
        let floor = mix(middle, anterior, ramp(p.y, 20.0, 34.0));
        mix(floor, -76.0, ramp(-p.y, 8.0, 24.0)) + self.base_rise
    }

    /// HU of a point that is not in the brain's space, for cells of width `h`.
    #[inline]
    pub(crate) fn outer_hu(&self, p: Vec3, at: &Layers, h: Width) -> f32 {
        let skin = inside(-at.skin, h);
        if skin <= 0.0 {
            return AIR_HU;
        }
        let vault_bone = inside(-at.bone_top, h);
        let mut hu = self.scalp_hu(p, at, h);
        if at.base < 0.0 {
            hu = mix(hu, self.face_hu(p, at, h), inside(at.base, h));
        }
        // Two dense tables around the diploe. Below the base the vault goes on as a shell.
        let from_table = at.bone_top.min((at.bone - at.bone_top).abs());
        let diploe = inside(2.2 - from_table, h.at_least(1.5));
        let bone_hu = mix(self.table_hu, self.diploe_hu, diploe);
        let shell = inside(at.bone_top - at.bone, h) * ramp(p.z, -78.0, -60.0);
        let bone = vault_bone * inside(-at.base, h).max(shell);
        hu = mix(hu, bone_hu, bone);
        if let Some(sinus) = &self.frontal_sinus {
            hu = mix(hu, -900.0, sinus.cover(p, h));
        }
        mix(AIR_HU, hu, skin)
    }

    fn scalp_hu(&self, p: Vec3, at: &Layers, h: Width) -> f32 {
        // Skin and muscle with fat between; the temporalis thickens the side.
        let temporal = ramp(at.direction.x.abs(), 0.7, 0.95) * ramp(-p.z, -40.0, 0.0);
        let fat =
            inside(1.6 - at.skin, h) * inside(-(at.bone_top + 2.0), h) * (1.0 - 0.7 * temporal);
        let swollen: f32 = self
            .swellings
            .iter()
            .map(|s| bell((at.direction - s.toward).length() * 3.2))
            .fold(0.0, f32::max);
        mix(self.muscle_hu, self.fat_hu, fat * (1.0 - swollen))
    }

    /// Face, skull base and neck: bone with cavities. Coarse, but with the right extremes of HU.
    fn face_hu(&self, p: Vec3, at: &Layers, h: Width) -> f32 {
        let [a, b, c] = self.texture;
        let rough = sine(0.21 * p.x + a) * sine(0.17 * p.y + b) * sine(0.19 * p.z + c);
        let mirrored = vec3(p.x.abs(), p.y, p.z);
        // Muscle and fat planes.
        let mut hu = mix(self.muscle_hu, self.fat_hu, ramp(rough, 0.25, 0.45) * 0.8);
        // The bone of the base, dense at the petrous, thin over the orbits.
        let thickness = mix(2.5, 6.0, ramp(-p.y, -28.0, -10.0)) + 2.0 * rough;
        let bone = inside(-(at.base + thickness), h);
        hu = mix(hu, 750.0 + 350.0 * rough, bone);
        let petrous = inside(self.petrous.distance(mirrored), h);
        let cells = ramp(mirrored.x, 42.0, 50.0) * ramp(-p.z, 34.0, 42.0);
        hu = mix(hu, mix(1250.0, -350.0 + 900.0 * rough, cells), petrous);
        // Orbits: fat, a globe of water.
        let Cavities {
            orbit,
            globe,
            nose,
            sphenoid,
            maxillary,
        } = &self.cavities;
        let orbit_distance = orbit.distance(mirrored);
        if orbit_distance < 8.0 {
            let wall = inside(orbit_distance - 2.5, h);
            hu = mix(hu, 600.0, wall);
            hu = mix(hu, -85.0, inside(orbit_distance, h));
            hu = mix(hu, 14.0, globe.cover(mirrored, h));
        }
        // Nasal cavity, ethmoid and sphenoid air; maxillary sinuses.
        hu = mix(hu, -650.0 + 500.0 * rough, nose.cover(p, h));
        hu = mix(hu, -850.0, sphenoid.cover(p, h));
        let sinus_distance = maxillary.distance(mirrored);
        hu = mix(hu, 650.0, inside(sinus_distance - 2.0, h));
        hu = mix(hu, -900.0, inside(sinus_distance, h));
        // Cervical spine below the foramen magnum, with the cord.
        let spine = vec3(p.x, p.y + 22.0, 0.0).length();
        if p.z < -74.0 && spine < 30.0 {
            hu = mix(hu, 650.0, inside(spine - 20.0, h) * inside(13.0 - spine, h));
            hu = mix(hu, 25.0, inside(spine - 12.0, h));
        }
        hu
    }
}

impl Cavities {
    /// `front` is where the forehead lies, mm before the middle of the head.
    fn behind(front: f32) -> Self {
        let solid = |center, semi_axes| Ellipsoid::new(center, semi_axes);
        Self {
            orbit: solid(vec3(31.0, front - 35.0, -42.0), vec3(18.0, 25.0, 16.0)),
            globe: solid(vec3(32.0, front - 22.0, -42.0), vec3(12.0, 12.0, 12.0)),
            nose: solid(vec3(0.0, front - 42.0, -58.0), vec3(11.0, 34.0, 26.0)),
            sphenoid: solid(vec3(0.0, 18.0, -47.0), vec3(13.0, 11.0, 9.0)),
            maxillary: solid(vec3(28.0, front - 40.0, -76.0), vec3(13.0, 15.0, 15.0)),
        }
    }
}

/// Square of the level from which on no swelling of the scalp reaches.
fn air_from(semi_axes: &Vec3, swellings: &[Swelling]) -> f32 {
    let most: f32 = swellings.iter().map(|swelling| swelling.thickness).sum();
    (1.0 + most / (0.7 * semi_axes.x)).powi(2)
}
