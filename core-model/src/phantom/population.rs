//! Who is scanned: age, sex and diseases drawn so that a site's table of characteristics holds.
//!
//! Ages are drawn from a distribution whose mean and standard deviation are the site's. A disease
//! is then drawn with the probability that gives its positives *their* mean age, deviation and share
//! of men (Bayes' rule), so every row of Supplementary Table 2 holds at once. Hemorrhages are drawn
//! together: first whether there is any, then which, given at least one. Hydrocephalus is more
//! common beside blood in the ventricles or the cisterns, edema beside a tumor or a hematoma, with
//! their totals unchanged.

mod builtin;
mod check;
mod disease;
mod site;

pub use builtin::{NAMES as SITE_NAMES, profile as builtin_profile};
pub use disease::{Disease, DiseaseSet, UnknownDisease};
pub use site::{
    DiseaseProfile, Group, Machine, PopulationProfile, RecordNoise, ScannerProfile, SiteProfile,
    SliceHabit,
};

use serde::{Deserialize, Serialize};

use super::random::Stream;
use check::Checker;

/// Ages the simulation knows, in years.
const AGES: std::ops::RangeInclusive<usize> = 18..=99;
const AGE_COUNT: usize = 99 - 18 + 1;
/// No probability given age and sex goes beyond this.
const SURE: f64 = 0.97;
/// How much more common hydrocephalus is beside IVH or SAH, and edema beside a tumor or an IPH.
const COMPANY: f64 = 2.5;
/// Mean number of kinds of hemorrhage in a scan with any, where a prevalence floor sets the kinds.
const KINDS_PER_HEMORRHAGE: f64 = 1.6;

/// Sex as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sex {
    /// Female.
    #[serde(rename = "F")]
    Female,
    /// Male.
    #[serde(rename = "M")]
    Male,
}

/// A person before any image: age, sex, diseases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Person {
    /// Years.
    pub age: u8,
    /// Sex.
    pub sex: Sex,
    /// The truth about the ten diseases.
    pub diseases: DiseaseSet,
}

/// What is wrong with a site profile.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SiteError {
    /// A number outside its range.
    #[error("site {site}: {field} is {found}, expected {expected}")]
    Range {
        /// The site.
        site: String,
        /// Dotted path of the field.
        field: String,
        /// What was found.
        found: f64,
        /// The rule.
        expected: &'static str,
    },
    /// A disease without an entry.
    #[error("site {site}: population.disease has no entry for {disease}")]
    Missing {
        /// The site.
        site: String,
        /// The disease.
        disease: Disease,
    },
    /// An age distribution that does not exist on 18–99 years.
    #[error(
        "site {site}: {field}: no age distribution on 18-99 years has mean {age} and deviation {age_sd}"
    )]
    Ages {
        /// The site.
        site: String,
        /// Dotted path of the field.
        field: String,
        /// Mean age, years.
        age: f64,
        /// Standard deviation, years.
        age_sd: f64,
    },
    /// An empty list.
    #[error("site {site}: {field} is empty, expected at least one entry")]
    Empty {
        /// The site.
        site: String,
        /// Dotted path of the field.
        field: &'static str,
    },
}

/// A checked site, ready to draw from.
#[derive(Clone, Debug)]
pub struct Site {
    profile: SiteProfile,
    ages: [f64; AGE_COUNT],
    /// Probability of each disease by age and sex (female, male).
    risks: [[[f64; 2]; AGE_COUNT]; Disease::ALL.len()],
}

impl Site {
    /// Checks a profile and solves for the age distributions it asks for.
    ///
    /// # Errors
    /// A probability outside 0–1, an impossible age distribution, a missing disease, a kind of
    /// hemorrhage more common than all together, or an empty list of machines or slices.
    pub fn new(profile: SiteProfile) -> Result<Self, SiteError> {
        Checker {
            site: &profile.name,
        }
        .check(&profile)?;
        let population = &profile.population;
        let fit = |field: &str, group: Group| {
            age_distribution(group.age, group.age_sd).ok_or_else(|| SiteError::Ages {
                site: profile.name.clone(),
                field: field.to_owned(),
                age: group.age,
                age_sd: group.age_sd,
            })
        };
        let ages = fit("population.all", population.all)?;
        let mut risks = [[[0.0; 2]; AGE_COUNT]; Disease::ALL.len()];
        for (disease, risk) in Disease::ALL.into_iter().zip(&mut risks) {
            let entry = population.disease[&disease];
            let group = entry.positives.unwrap_or(population.all);
            let positive_ages = fit(&format!("population.disease.{disease}.positives"), group)?;
            let by_sex = [
                (1.0 - group.male) / (1.0 - population.all.male),
                group.male / population.all.male,
            ];
            for ((risk, positive), all) in risk.iter_mut().zip(positive_ages).zip(ages) {
                let by_age = entry.prevalence * positive / all;
                *risk = by_sex.map(|factor| (by_age * factor).min(SURE));
            }
        }
        Ok(Self {
            profile,
            ages,
            risks,
        })
    }

    /// A built-in site: `langone`, `longisland`, `rsna` or `cq500`.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        let profile = builtin_profile(name)?;
        Some(Self::new(profile).expect("built-in profiles are valid: a test builds them all"))
    }

    /// The profile the site was built from.
    #[must_use]
    pub const fn profile(&self) -> &SiteProfile {
        &self.profile
    }

    /// Draws a person.
    pub(crate) fn draw(&self, stream: &mut Stream) -> Person {
        let index = stream.pick(self.ages.iter().copied());
        let male = stream.chance(self.profile.population.all.male);
        let risk = |disease: Disease| self.risks[disease as usize][index][usize::from(male)];

        let mut diseases = DiseaseSet::default();
        let share_of_any = Disease::HEMORRHAGES.map(|kind| risk(kind) / risk(Disease::Ich));
        if stream.chance(risk(Disease::Ich)) {
            for (kind, present) in Disease::HEMORRHAGES
                .into_iter()
                .zip(kinds(share_of_any, stream))
            {
                diseases.insert(kind, present);
            }
        }
        let [iph, ivh, _, _, sah] = share_of_any.map(|share| share.min(SURE));
        diseases.insert(Disease::Tumor, stream.chance(risk(Disease::Tumor)));
        diseases.insert(Disease::Adrd, stream.chance(risk(Disease::Adrd)));

        let blood = diseases.contains(Disease::Ivh) || diseases.contains(Disease::Sah);
        let blood_share = risk(Disease::Ich) * either(ivh, sah);
        diseases.insert(
            Disease::Hydrocephalus,
            stream.chance(in_company(risk(Disease::Hydrocephalus), blood, blood_share)),
        );
        let mass = diseases.contains(Disease::Tumor) || diseases.contains(Disease::Iph);
        let mass_share = either(risk(Disease::Tumor), risk(Disease::Ich) * iph);
        diseases.insert(
            Disease::Edema,
            stream.chance(in_company(risk(Disease::Edema), mass, mass_share)),
        );

        let age = u8::try_from(AGES.start() + index).unwrap_or(u8::MAX);
        Person {
            age,
            sex: if male { Sex::Male } else { Sex::Female },
            diseases,
        }
    }
}

impl SiteProfile {
    /// The same site with every disease at least as common as `floor`: for small cohorts that must
    /// hold some positives of each.
    #[must_use]
    pub fn with_prevalence_floor(mut self, floor: f64) -> Self {
        let table = &mut self.population.disease;
        for entry in table.values_mut() {
            entry.prevalence = entry.prevalence.max(floor);
        }
        let kinds: f64 = Disease::HEMORRHAGES
            .iter()
            .filter_map(|kind| table.get(kind))
            .map(|e| e.prevalence)
            .sum();
        if let Some(any) = table.get_mut(&Disease::Ich) {
            any.prevalence = any.prevalence.max(kinds / KINDS_PER_HEMORRHAGE).min(SURE);
        }
        self
    }
}

/// Probability that at least one of two independent events happens.
fn either(a: f64, b: f64) -> f64 {
    1.0 - (1.0 - a) * (1.0 - b)
}

/// Probability of an event of total probability `total`, given whether its companion, of probability
/// `companion`, is present: [`COMPANY`] times more likely beside it, with the same total.
fn in_company(total: f64, present: bool, companion: f64) -> f64 {
    let alone = total / (1.0 + (COMPANY - 1.0) * companion);
    if present {
        (alone * COMPANY).min(SURE)
    } else {
        alone
    }
}

/// Draws which kinds of hemorrhage are present, given at least one, with the marginals `shares`.
fn kinds(shares: [f64; 5], stream: &mut Stream) -> [bool; 5] {
    let total: f64 = shares.iter().sum();
    let shares = shares.map(|share| (share / total.min(1.0)).min(SURE));
    // Independent draws with probabilities `free`, repeated until one is present, have marginals
    // free / (1 − Π(1 − free)): a fixed point gives the `free` that yields `shares`.
    let mut free = shares;
    for _ in 0..40 {
        let any = 1.0 - free.iter().map(|p| 1.0 - p).product::<f64>();
        free = shares.map(|share| (share * any).max(1e-9));
    }
    for _ in 0..1000 {
        let drawn = free.map(|p| stream.chance(p));
        if drawn.contains(&true) {
            return drawn;
        }
    }
    let mut only = [false; 5];
    only[stream.pick(shares)] = true;
    only
}

/// The distribution exp(a·t + b·t²) on [`AGES`] with the given mean and standard deviation, by
/// Newton's method; `None` if there is none.
fn age_distribution(mean: f64, sd: f64) -> Option<[f64; AGE_COUNT]> {
    // Around the target mean, in units of the target deviation: the moments sought are 0 and 1.
    let standard = |index: usize| ((AGES.start() + index) as f64 - mean) / sd;
    let (mut a, mut b) = (0.0, -0.5);
    for _ in 0..100 {
        let mut weights = [0.0; AGE_COUNT];
        for (index, weight) in weights.iter_mut().enumerate() {
            let t = standard(index);
            *weight = (a * t + b * t * t).min(300.0).exp();
        }
        let total: f64 = weights.iter().sum();
        let moment = |power: i32| -> f64 {
            weights
                .iter()
                .enumerate()
                .map(|(i, w)| w * standard(i).powi(power))
                .sum::<f64>()
                / total
        };
        let (m1, m2, m3, m4) = (moment(1), moment(2), moment(3), moment(4));
        if m1.abs() < 1e-9 && (m2 - 1.0).abs() < 1e-9 {
            return Some(weights.map(|w| w / total));
        }
        // The Jacobian of (m1, m2) in (a, b) is the covariance matrix of (t, t²).
        let (aa, ab, bb) = (m2 - m1 * m1, m3 - m1 * m2, m4 - m2 * m2);
        let determinant = aa * bb - ab * ab;
        if !determinant.is_normal() {
            return None;
        }
        let (miss1, miss2) = (-m1, 1.0 - m2);
        a += ((bb * miss1 - ab * miss2) / determinant).clamp(-2.0, 2.0);
        b += ((aa * miss2 - ab * miss1) / determinant).clamp(-0.5, 0.5);
    }
    None
}
