//! Phantom patients: synthetic head CT with known truth.
//!
//! Every patient is a set of latent factors (head, brain, lesions, scanner) from which any grid can
//! be sampled: a cube at model size, a 1 mm volume, or the slices of a scanner. Signed distances to
//! surfaces give each cell its share of each tissue, so coarse cells have partial volume without a
//! fine volume being made first.
//!
//! The sites are simulations shaped after the tables of the paper; no patient of it is in them.

mod anatomy;
mod geometry;
mod grid;
mod lesion;
mod patient;
mod population;
mod random;
mod scanner;
#[cfg(test)]
mod tests;

pub use geometry::Vec3;
pub use grid::Grid;
pub use patient::{Patient, Truth};
pub use population::{
    Disease, DiseaseProfile, DiseaseSet, Group, Machine, Person, PopulationProfile, RecordNoise,
    SITE_NAMES, ScannerProfile, Sex, Site, SiteError, SiteProfile, SliceHabit, UnknownDisease,
    builtin_profile,
};
pub use random::Stream;
pub use scanner::Acquisition;
