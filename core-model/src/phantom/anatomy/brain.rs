//! The brain: cortex folded into sulci, white matter, deep nuclei, cerebellum, brain stem, the
//! spaces around them, and the falx.

use super::super::geometry::{Ellipsoid, Tube, Vec3, Width, inside, mix, ramp, sheet, sine, vec3};
use super::super::random::Stream;
use super::ventricles::{VentricleSizes, Ventricles};

/// How far water seeps from pressed ventricles into the white matter.
const SEEPAGE: Width = Width::new(9.0);
/// Over what height the cistern around the brain stem ends.
const CISTERN_END: Width = Width::new(6.0);
/// Height from which up neither tentorium nor cistern is met, mm.
const ABOVE_TENTORIUM: f32 = 6.0;

/// What a disease does to the shape of the brain as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habitus {
    /// Loss of tissue with age and dementia, 0 (young) to about 2 (severe).
    pub(crate) atrophy: f32,
    /// Additional loss at the temporal lobes, 0–1.
    pub(crate) temporal_atrophy: f32,
    /// Dilatation of the ventricles under pressure, 0–1.
    pub(crate) hydrocephalus: f32,
    /// Swelling of the whole brain, 0–1.
    pub(crate) swelling: f32,
}

/// Latent factors of one brain.
#[derive(Clone, Debug)]
pub(crate) struct Brain {
    white_hu: f32,
    gray_hu: f32,
    /// HU of cerebrospinal fluid.
    pub(crate) csf_hu: f32,
    vein_hu: f32,
    surface_gap: f32,
    sulcus_width: f32,
    sulcus_depth: f32,
    sylvian_width: f32,
    fissure_width: f32,
    cistern_width: f32,
    fold: [f32; 6],
    fold_rate: Vec3,
    falx_hu: f32,
    periventricular: f32,
    swelling: f32,
    ventricles: Ventricles,
    nuclei: [Ellipsoid; 3],
    pons: Tube,
    calcifications: Vec<(Ellipsoid, f32, bool)>,
}

/// What a cell of the brain's space is made of. Shares of the cell, 0–1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tissue {
    /// Fluid around the brain: surface, sulci, cisterns.
    pub(crate) subarachnoid: f32,
    /// Fluid in the ventricles.
    pub(crate) ventricle: f32,
    /// Gray matter's share of the tissue that is neither.
    pub(crate) gray: f32,
    /// Dense midline structures and calcifications: share and HU.
    pub(crate) dense: f32,
    /// HU of the dense share.
    pub(crate) dense_hu: f32,
    /// Interstitial edema around pressed ventricles.
    pub(crate) seepage: f32,
}

impl Brain {
    pub(crate) fn draw(stream: &mut Stream, age: f32, habitus: Habitus) -> Self {
        let Habitus {
            atrophy,
            temporal_atrophy,
            hydrocephalus,
            swelling,
        } = habitus;
        let tight = 1.0 - 0.75 * hydrocephalus - 0.8 * swelling;
        let tight = tight.max(0.12);
        let body = stream.uniform(2.6, 4.0) + 1.5 * atrophy;
        let pressed = stream.uniform(6.0, 9.0) * hydrocephalus;
        let ventricles = Ventricles::new(VentricleSizes {
            body: (body + pressed) * (1.0 - 0.55 * swelling),
            temporal_horn: 1.0 + 0.7 * atrophy + 2.2 * temporal_atrophy + 4.2 * hydrocephalus,
            third: (stream.uniform(2.0, 3.6) + 2.0 * atrophy + 6.5 * hydrocephalus)
                * (1.0 - 0.5 * swelling),
            fourth: stream.uniform(3.8, 5.2) + 2.2 * hydrocephalus * stream.uniform(0.0, 1.0),
            asymmetry: stream.normal(1.0, 0.07),
        });
        let calcifications = calcifications(stream, age);
        Self {
            white_hu: stream.normal(28.5, 0.8) - 0.8 * atrophy,
            gray_hu: stream.normal(37.5, 0.8),
            csf_hu: stream.normal(8.0, 1.5),
            vein_hu: stream.normal(56.0, 3.5),
            surface_gap: (stream.uniform(0.8, 1.6) + 1.6 * atrophy) * tight,
            sulcus_width: (stream.uniform(0.7, 1.3) + 1.5 * atrophy) * tight,
            sulcus_depth: stream.uniform(13.0, 18.0),
            sylvian_width: (stream.uniform(2.0, 3.2) + 2.2 * atrophy + 4.0 * temporal_atrophy)
                * tight,
            fissure_width: (stream.uniform(0.8, 1.6) + 1.4 * atrophy) * tight,
            cistern_width: (stream.uniform(4.0, 5.5) + 1.0 * atrophy) * tight.max(0.3),
            fold: std::array::from_fn(|_| stream.phase()),
            fold_rate: vec3(
                stream.uniform(0.19, 0.24),
                stream.uniform(0.19, 0.24),
                stream.uniform(0.17, 0.22),
            ),
            falx_hu: stream.uniform(42.0, 58.0),
            periventricular: hydrocephalus * stream.uniform(0.2, 0.9),
            swelling,
            ventricles,
            nuclei: [
                Ellipsoid::new(vec3(11.0, -13.0, 5.0), vec3(8.0, 13.0, 9.0)),
                Ellipsoid::new(vec3(24.0, 4.0, 3.0), vec3(7.0, 17.0, 10.0)),
                Ellipsoid::new(vec3(14.0 + 0.5 * body, 20.0, 10.0), vec3(5.0, 8.0, 9.0)),
            ],
            pons: Tube::new(vec3(0.0, -13.0, -16.0), vec3(0.0, -19.0, -52.0), 14.0, 12.0),
            calcifications,
        }
    }

    /// HU of tissue with this share of gray matter. Swelling blurs the difference.
    #[inline]
    pub(crate) fn parenchyma_hu(&self, gray: f32) -> f32 {
        let contrast = (self.gray_hu - self.white_hu) * (1.0 - 0.75 * self.swelling);
        self.white_hu + contrast * gray - 3.0 * self.swelling * gray
    }

    /// What a cell of width `h` is made of. `p` is in brain coordinates, `depth` the depth below
    /// the dura or whatever lies under it, `effaced` the local closing of sulci, 0–1.
    #[inline(always)]
    pub(crate) fn tissue(&self, p: Vec3, depth: f32, effaced: f32, h: Width) -> Tissue {
        let side = p.x.abs();
        let open = 1.0 - effaced;
        let depth = depth - self.surface_gap * open * (1.0 + 0.5 * ramp(p.y, 0.0, 60.0));
        let mut tissue = Tissue {
            subarachnoid: inside(depth, h),
            ..Tissue::default()
        };
        tissue.ventricle = self.ventricles.cover(p, h);
        tissue.seepage = if self.periventricular > 0.0 {
            self.periventricular * self.ventricles.cover(p, SEEPAGE)
        } else {
            0.0
        };

        tissue.dense_hu = self.falx_hu;
        if p.z > ABOVE_TENTORIUM + h.mm() {
            self.cerebrum(p, side, depth, open, h, &mut tissue);
        } else {
            self.around_tentorium(p, side, depth, open, h, &mut tissue);
        }
        self.midline(p, side, depth, open, h, &mut tissue);
        for (solid, hu, paired) in &self.calcifications {
            let q = if *paired { vec3(side, p.y, p.z) } else { p };
            let share = solid.cover(q, h);
            if share > 0.0 {
                tissue.dense = share;
                tissue.dense_hu = *hu;
            }
        }
        tissue
    }

    /// The lower half: cerebrum, cerebellum or brain stem, the tentorium between them, cisterns.
    #[inline]
    fn around_tentorium(
        &self,
        p: Vec3,
        side: f32,
        depth: f32,
        open: f32,
        h: Width,
        tissue: &mut Tissue,
    ) {
        // The tentorium slopes down from the midline; below it and behind, the cerebellum.
        let tent = p.z + 12.0 + 0.28 * side - 0.06 * (p.y + 30.0);
        let behind = ramp(-p.y, 2.0, 14.0);
        let stem = self.pons.distance(p);
        if behind > 0.0 && tent < 0.0 && stem > 0.0 {
            self.cerebellum(p, -tent, h, tissue);
        } else if stem > 0.0 {
            self.cerebrum(p, side, depth, open, h, tissue);
        } else {
            tissue.gray = 0.35;
        }
        let leaf = sheet(tent, 1.6, h) * behind * ramp(stem, 2.0, 8.0);
        tissue.subarachnoid = tissue
            .subarachnoid
            .max(sheet(tent, 3.0, h) * behind * ramp(stem, 0.0, 6.0) * open);
        tissue.dense = 0.6 * leaf;
        self.cisterns(p, side, stem, h, tissue);
    }

    #[inline]
    fn cerebrum(&self, p: Vec3, side: f32, depth: f32, open: f32, h: Width, tissue: &mut Tissue) {
        let mut surface = depth;
        // The sylvian fissure: a sheet from the insula outward.
        if side > 28.0 && p.y > -34.0 && p.y < 32.0 && p.z.abs() < 30.0 {
            let height = p.z + 5.0 - 0.10 * (p.y + 10.0) - 0.12 * (side - 36.0);
            let edge = ramp(side, 31.0, 37.0) * ramp(p.y, -32.0, -16.0) * ramp(-p.y, -30.0, -20.0);
            let width = self.sylvian_width * open * (0.7 + 0.5 * ramp(-side, -50.0, -38.0));
            tissue.subarachnoid = tissue.subarachnoid.max(sheet(height, width, h) * edge);
            surface = surface.min(mix(surface, height.abs() - 0.5 * width, edge));
        }
        // The interhemispheric fissure, outside the corpus callosum.
        if side < 12.0 {
            let ring = vec3(0.0, (p.y + 2.0) * (1.0 / 42.0), (p.z - 8.0) * (1.0 / 25.0)).length();
            let open_midline = ramp(ring, 0.95, 1.15) * ramp(p.z, -26.0, -16.0);
            if open_midline > 0.0 {
                let width = self.fissure_width * open;
                tissue.subarachnoid = tissue
                    .subarachnoid
                    .max(sheet(side, width, h) * open_midline);
                surface = surface.min(mix(surface, side - 0.5 * width, open_midline));
            }
        }
        tissue.gray = inside(surface - 3.2, h.at_least(1.0));
        if surface < self.sulcus_depth {
            // Sulci are the zero set of a sum of warped waves; |f| over its slope is the distance.
            let [a, b, c, d, e, g] = self.fold;
            let k = self.fold_rate;
            let f = sine(k.x * p.x + a + 1.3 * sine(0.075 * p.z + b))
                + sine(k.y * p.y + c + 1.3 * sine(0.08 * p.x + d))
                + sine(k.z * p.z + e + 1.3 * sine(0.07 * p.y + g));
            let distance = f.abs() * 4.0;
            let taper = (1.0 - surface.max(0.0) / self.sulcus_depth).max(0.0);
            let width = self.sulcus_width * open * (0.5 + taper);
            let end = ramp(taper, 0.0, 0.25);
            tissue.subarachnoid = tissue.subarachnoid.max(sheet(distance, width, h) * end);
            let ribbon = inside(distance - 0.5 * width - 3.0, h.at_least(1.0)) * end;
            tissue.gray = tissue.gray.max(ribbon);
        }
        if side < 36.0 && p.z.abs() < 24.0 {
            let q = vec3(side, p.y, p.z);
            for nucleus in &self.nuclei {
                tissue.gray = tissue.gray.max(nucleus.cover(q, h.at_least(1.5)) * 0.95);
            }
        }
    }

    #[inline]
    fn cerebellum(&self, p: Vec3, below_tent: f32, h: Width, tissue: &mut Tissue) {
        // Folia are finer than any slice resolves: stripes that fade as cells grow.
        let stripes = 0.25 * (1.0 - ramp(h.mm(), 1.5, 4.0));
        let folia =
            sine(1.25 * p.z + 0.5 * sine(0.1 * p.x + self.fold[0]) + 0.02 * p.y * p.y * 0.3);
        let core = Ellipsoid::new(vec3(18.0, -48.0, -42.0), vec3(15.0, 14.0, 10.0));
        let white = core.cover(vec3(p.x.abs(), p.y, p.z), h.at_least(3.0));
        tissue.gray = mix(0.75 + stripes * folia, 0.05, white);
        let vallecula = sheet(p.x, 2.0, h) * ramp(-p.z, 44.0, 60.0);
        tissue.subarachnoid = tissue.subarachnoid.max(vallecula);
        tissue.subarachnoid = tissue
            .subarachnoid
            .max(0.35 * ramp(folia, 0.6, 1.0) * inside(below_tent - 8.0, h) * stripes);
    }

    /// Suprasellar star, ambient and prepontine cisterns, the space behind the cerebellum.
    #[inline]
    fn cisterns(&self, p: Vec3, side: f32, stem: f32, h: Width, tissue: &mut Tissue) {
        if p.z > ABOVE_TENTORIUM || p.y > 34.0 {
            return;
        }
        let width = self.cistern_width;
        let around = sheet(stem - 0.5 * width, width, h) * inside(p.z + 2.0, CISTERN_END);
        let behind_pons = ramp(-p.y, 26.0, 34.0) * ramp(-p.z, 14.0, 24.0);
        let mut share = around * (1.0 - behind_pons);
        let star = 5.0 + width;
        let arm = (side * 0.8 - 0.5 * (p.y - 8.0).abs()).max(0.0);
        let suprasellar =
            vec3(side, p.y - 8.0, (p.z + 26.0) * 1.1).length() - 1.9 * star + 0.8 * arm;
        share = share.max(inside(suprasellar, h));
        let quadrigeminal = vec3(side * 0.7, p.y + 32.0, p.z + 8.0).length() - 1.1 * width;
        share = share.max(inside(quadrigeminal, h));
        let magna = vec3(side * 0.7, p.y + 62.0, p.z + 68.0).length() - 2.2 * width;
        share = share.max(inside(magna, h));
        tissue.subarachnoid = tissue.subarachnoid.max(share);
    }

    /// The falx and the great venous sinus along the inner table.
    #[inline]
    fn midline(&self, p: Vec3, side: f32, depth: f32, open: f32, h: Width, tissue: &mut Tissue) {
        if side > 14.0 || p.z < -20.0 {
            return;
        }
        let ring = vec3(0.0, (p.y + 2.0) * (1.0 / 48.0), (p.z - 8.0) * (1.0 / 34.0)).length();
        let falx = sheet(side, 1.3, h) * ramp(ring, 0.95, 1.1) * ramp(p.z, -20.0, -8.0);
        tissue.dense = tissue.dense.max(falx * (0.5 + 0.3 * open));
        let sinus = inside(depth - 5.0 + side, h) * ramp(p.z - 0.6 * p.y, -10.0, 25.0);
        if sinus > tissue.dense {
            tissue.dense = sinus;
            tissue.dense_hu = self.vein_hu;
        }
    }
}

fn calcifications(stream: &mut Stream, age: f32) -> Vec<(Ellipsoid, f32, bool)> {
    let old = f64::from(((age - 18.0) / 70.0).clamp(0.0, 1.0));
    let mut found = Vec::new();
    let mut ball = |center, radius, hu, paired| {
        found.push((
            Ellipsoid::new(center, vec3(radius, radius, radius)),
            hu,
            paired,
        ));
    };
    if stream.chance(0.35 + 0.4 * old) {
        ball(
            vec3(0.0, -25.0, 0.0),
            stream.uniform(1.5, 3.5),
            stream.uniform(100.0, 300.0),
            false,
        );
    }
    if stream.chance(0.25 + 0.5 * old) {
        ball(
            vec3(20.0, -33.0, 8.0),
            stream.uniform(1.5, 3.5),
            stream.uniform(90.0, 250.0),
            true,
        );
    }
    if stream.chance(0.03 + 0.15 * old) {
        ball(
            vec3(19.0, 4.0, 0.0),
            stream.uniform(1.5, 4.0),
            stream.uniform(55.0, 110.0),
            true,
        );
    }
    if stream.chance(0.05 + 0.15 * old) {
        let center = vec3(0.0, stream.uniform(10.0, 50.0), stream.uniform(45.0, 60.0));
        ball(
            center,
            stream.uniform(1.5, 3.0),
            stream.uniform(150.0, 500.0),
            false,
        );
    }
    found
}
