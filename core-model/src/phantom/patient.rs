//! A patient: who it is, what the head holds, and the scans made of it.

use crate::ct::{Affine, Volume};

use super::anatomy::{AIR_HU, Brain, Head};
use super::geometry::{Vec3, Width, inside, ramp, vec3};
use super::grid::Grid;
use super::lesion::{self, Cell, Lesions};
use super::population::{Disease, DiseaseSet, Person, Sex, Site};
use super::random::{Purpose, Stream};
use super::scanner::Acquisition;

/// Midline shift from which a reader calls it one, mm.
const SHIFT_CALLED_MM: f32 = 4.0;
/// Most scans one patient has.
const MOST_SCANS: u32 = 12;

/// A simulated patient with known truth.
///
/// The same site, seed and index give the same patient and the same scans on any machine and any
/// number of threads: nothing is shared between patients.
///
/// ```
/// use core_model::phantom::{Patient, Site};
///
/// let site = Site::builtin("langone").expect("a built-in site");
/// let patient = Patient::draw(&site, 7, 0);
/// let scan = patient.acquisition(&site, 0);
/// let grid = patient.model_grid(&scan, 16);
/// let voxels_hu = patient.render(&scan, &grid);
/// assert_eq!(voxels_hu.len(), 16 * 16 * 16);
/// ```
#[derive(Clone, Debug)]
pub struct Patient {
    seed: u64,
    index: u64,
    person: Person,
    scans: u32,
    head: Head,
    brain: Brain,
    lesions: Lesions,
}

/// What a reader without error would report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// The ten diseases.
    pub diseases: DiseaseSet,
    /// Blood on the left.
    pub bleed_left: bool,
    /// Blood on the right.
    pub bleed_right: bool,
    /// Midline shift, mm, positive to the right.
    pub midline_shift_mm: f32,
    /// Whether the shift is large enough to be called.
    pub midline_shift: bool,
    /// Whether something presses on the brain.
    pub mass_effect: bool,
}

impl Patient {
    /// Draws patient number `index` of a site under a seed.
    #[must_use]
    pub fn draw(site: &Site, seed: u64, index: u64) -> Self {
        let mut stream = Stream::new(seed, index, Purpose::Person, 0);
        let person = site.draw(&mut stream);
        let mean = site.profile().population.scans_per_patient;
        let mut scans = 1;
        // Geometric: after each scan there is another with the same probability.
        while scans < MOST_SCANS && stream.chance(1.0 - 1.0 / mean) {
            scans += 1;
        }
        Self::with_person(person, scans, seed, index)
    }

    /// A patient with the given diseases and nothing drawn by prevalence: for tests and figures.
    #[must_use]
    pub fn with_diseases(diseases: DiseaseSet, age: u8, sex: Sex, seed: u64, index: u64) -> Self {
        Self::with_person(Person { age, sex, diseases }, 1, seed, index)
    }

    fn with_person(person: Person, scans: u32, seed: u64, index: u64) -> Self {
        let mut lesion_stream = Stream::new(seed, index, Purpose::Lesions, 0);
        let mut habitus = lesion::habitus(&mut lesion_stream, &person);
        let mut swellings = Vec::new();
        let lesions = Lesions::draw(&mut lesion_stream, &person, &mut habitus, &mut swellings);
        let mut anatomy = Stream::new(seed, index, Purpose::Anatomy, 0);
        let head = Head::draw(&mut anatomy, person.sex == Sex::Male, swellings);
        let brain = Brain::draw(&mut anatomy, f32::from(person.age), habitus);
        Self {
            seed,
            index,
            person,
            scans,
            head,
            brain,
            lesions,
        }
    }

    /// Number within the site.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Years.
    #[must_use]
    pub const fn age(&self) -> u8 {
        self.person.age
    }

    /// Sex.
    #[must_use]
    pub const fn sex(&self) -> Sex {
        self.person.sex
    }

    /// How many scans were made, 1 or more.
    #[must_use]
    pub const fn scans(&self) -> u32 {
        self.scans
    }

    /// The truth about this patient's scans.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let [bleed_left, bleed_right] = self.lesions.bleeding_sides();
        Truth {
            diseases: self.person.diseases,
            bleed_left,
            bleed_right,
            midline_shift_mm: self.lesions.shift,
            midline_shift: self.lesions.shift.abs() >= SHIFT_CALLED_MM,
            mass_effect: self.lesions.press(),
        }
    }

    /// Whether the patient has the disease.
    #[must_use]
    pub const fn has(&self, disease: Disease) -> bool {
        self.person.diseases.contains(disease)
    }

    /// Scan number `number` of this patient on a scanner of the site.
    #[must_use]
    pub fn acquisition(&self, site: &Site, number: u32) -> Acquisition {
        Acquisition::draw(site, self.seed, self.index, number, self.head.semi_axes)
    }

    /// Streams for what is written about the patient, by number: dates, codes, errors of records.
    #[must_use]
    pub fn record_stream(&self, number: u32) -> Stream {
        Stream::new(self.seed, self.index, Purpose::Record, number)
    }

    /// A cube of `n` voxels a side around the head, stretched as the released preprocessing
    /// stretches the box of the head: what a model of that input size sees.
    #[must_use]
    pub fn model_grid(&self, scan: &Acquisition, n: usize) -> Grid {
        let (center, extent) = self.bounds(scan.field_of_view);
        Grid::filling([n; 3], center, extent)
    }

    /// Cubic voxels of `spacing_mm` around the head.
    #[must_use]
    pub fn isotropic_grid(&self, scan: &Acquisition, spacing_mm: f32) -> Grid {
        let (center, extent) = self.bounds(1.06_f32.max(scan.field_of_view));
        let voxels = |length: f32| (length / spacing_mm).round().max(1.0) as usize;
        Grid::filling(
            [voxels(extent.x), voxels(extent.y), voxels(extent.z)],
            center,
            extent,
        )
    }

    /// The slices a scanner stores: `matrix` × `matrix` pixels in a field of 240 mm or more, with
    /// the scan's thickness and tilt.
    #[must_use]
    pub fn scanner_grid(&self, scan: &Acquisition, matrix: usize) -> Grid {
        let (center, extent) = self.bounds(1.04);
        let field = extent.x.max(extent.y).max(240.0);
        let slices = (extent.z / scan.thickness_mm).ceil().max(10.0) as usize;
        let height = slices as f32 * scan.thickness_mm;
        Grid::filling([matrix, matrix, slices], center, vec3(field, field, height)).sliced(
            Acquisition::cells_per_slice(scan.thickness_mm),
            scan.tilt_deg,
        )
    }

    /// Middle and extent of the box that holds the head, mm.
    fn bounds(&self, factor: f32) -> (Vec3, Vec3) {
        let head = self.head.semi_axes;
        let bottom = -0.92 * head.z;
        let center = vec3(0.0, 0.0, 0.5 * (head.z + bottom));
        (
            center,
            vec3(2.04 * head.x, 2.04 * head.y, head.z - bottom) * factor,
        )
    }

    /// Voxels in HU, row-major (axis 2 contiguous).
    ///
    /// Runs on the calling thread; draw many patients in parallel rather than one.
    #[must_use]
    pub fn render(&self, scan: &Acquisition, grid: &Grid) -> Vec<f32> {
        let mut voxels_hu = Vec::with_capacity(grid.len());
        let share = 1.0 / grid.cells() as f32;
        self.sample(scan, grid, |cells| {
            let total: f32 = cells.iter().map(|cell| cell.hu).sum();
            voxels_hu.push(total * share);
        });
        scan.develop(&mut voxels_hu, grid);
        voxels_hu
    }

    /// Which lesion each voxel belongs to: 0 for none, otherwise 1 + the disease's place in
    /// [`Disease::ALL`]. Hydrocephalus and dementia have no mask: they are everywhere.
    #[must_use]
    pub fn render_mask(&self, scan: &Acquisition, grid: &Grid) -> Vec<u8> {
        let mut mask = Vec::with_capacity(grid.len());
        self.sample(scan, grid, |cells| {
            let middle = cells[cells.len() / 2];
            mask.push(middle.lesion.map_or(0, |disease| 1 + disease as u8));
        });
        mask
    }

    /// The rendered scan with its place in space.
    ///
    /// # Panics
    /// Never: a grid has voxels, and its steps span space.
    #[must_use]
    pub fn volume(&self, scan: &Acquisition, grid: &Grid) -> Volume {
        let affine = Affine::new(grid.affine()).expect("a grid's steps span space");
        Volume::new(grid.shape(), affine, self.render(scan, grid)).expect("one HU per voxel")
    }

    fn sample(&self, scan: &Acquisition, grid: &Grid, mut put: impl FnMut(&[Cell])) {
        let [ni, nj, nk] = grid.shape();
        let [step_i, step_j, step_k] = grid.steps();
        let cells = grid.cells();
        let fraction = 1.0 / cells as f32;
        let head_step = scan.head_step(step_k * fraction);
        let first_cell = step_k * (0.5 * (fraction - 1.0));
        let spacing = grid.spacing_mm();
        let h = Width::new((spacing[0] * spacing[1] * spacing[2] * fraction).cbrt());
        let mut column = vec![
            Cell {
                hu: AIR_HU,
                lesion: None
            };
            cells
        ];
        for i in 0..ni {
            for j in 0..nj {
                let start = grid.origin() + step_i * i as f32 + step_j * j as f32;
                let mut place = start + first_cell;
                let mut p = scan.head_point(place);
                for _ in 0..nk {
                    for cell in &mut column {
                        *cell = self.cell(scan, place, p, h);
                        p = p + head_step;
                        place = place + step_k * fraction;
                    }
                    put(&column);
                }
            }
        }
    }

    /// One cell of width `h` at `place` in the scanner, `p` in the head.
    #[inline(always)]
    fn cell(&self, scan: &Acquisition, place: Vec3, p: Vec3, h: Width) -> Cell {
        let level_squared = self.head.level_squared(p);
        if self.head.clears(p, level_squared, h) {
            return Self::beside_head(scan, place, h);
        }
        let Some(at) = self.head.layers(p, level_squared, h) else {
            return Self::beside_head(scan, place, h);
        };
        let within = inside(-at.dura, h);
        if within <= 0.0 {
            return Cell {
                hu: self.head.outer_hu(p, &at, h),
                lesion: None,
            };
        }
        let thickness = self.lesions.collection_thickness(p, &at);
        let (q, effaced) = self.lesions.displace(p, thickness);
        let tissue = self
            .brain
            .tissue(q, at.dura.min(at.vault - thickness), effaced, h);
        let parenchyma = self.brain.parenchyma_hu(tissue.gray);
        let mut cell = self
            .lesions
            .paint(p, &at, &tissue, parenchyma, self.brain.csf_hu, h);
        cell.hu += self.hardening(scan, p);
        if within < 1.0 {
            let outer = self.head.outer_hu(p, &at, h);
            cell.hu = outer + (cell.hu - outer) * within;
            if within < 0.5 {
                cell.lesion = None;
            }
        }
        cell
    }

    /// A cell of air, or of the headrest.
    #[inline]
    fn beside_head(scan: &Acquisition, place: Vec3, h: Width) -> Cell {
        let hu = scan
            .headrest(place, h)
            .map_or(AIR_HU, |(hu, share)| AIR_HU + (hu - AIR_HU) * share);
        Cell { hu, lesion: None }
    }

    /// Beam hardening: a cup over the brain and a dark bar between the petrous bones.
    #[inline]
    fn hardening(&self, scan: &Acquisition, p: Vec3) -> f32 {
        let radius = p.dot(p) * (1.0 / (75.0 * 75.0));
        let cup = scan.cupping_hu * (radius - 0.5);
        if p.z > -22.0 {
            return cup;
        }
        let bar = ramp(-p.x.abs(), -26.0, -8.0) * ramp(-(p.z + 38.0).abs(), -12.0, -4.0);
        cup - 1.8 * scan.cupping_hu * bar
    }
}
