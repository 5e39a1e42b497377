//! The ten diseases of the paper and sets of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A disease the paper classifies (Supplementary Tables 1 and 2, in that table's order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Disease {
    /// Brain tumor, primary or metastatic.
    Tumor,
    /// Hydrocephalus.
    #[serde(rename = "HCP")]
    Hydrocephalus,
    /// Cerebral edema.
    Edema,
    /// Alzheimer's disease and related dementia.
    #[serde(rename = "ADRD")]
    Adrd,
    /// Intraparenchymal hemorrhage.
    #[serde(rename = "IPH")]
    Iph,
    /// Intraventricular hemorrhage.
    #[serde(rename = "IVH")]
    Ivh,
    /// Subdural hemorrhage.
    #[serde(rename = "SDH")]
    Sdh,
    /// Epidural hemorrhage.
    #[serde(rename = "EDH")]
    Edh,
    /// Subarachnoid hemorrhage.
    #[serde(rename = "SAH")]
    Sah,
    /// Any intracranial hemorrhage.
    #[serde(rename = "ICH")]
    Ich,
}

impl Disease {
    /// All ten, in the order of Supplementary Table 2.
    pub const ALL: [Self; 10] = [
        Self::Tumor,
        Self::Hydrocephalus,
        Self::Edema,
        Self::Adrd,
        Self::Iph,
        Self::Ivh,
        Self::Sdh,
        Self::Edh,
        Self::Sah,
        Self::Ich,
    ];

    /// The five kinds of hemorrhage whose union is [`Disease::Ich`].
    pub const HEMORRHAGES: [Self; 5] = [Self::Iph, Self::Ivh, Self::Sdh, Self::Edh, Self::Sah];

    /// The short name used in column headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tumor => "Tumor",
            Self::Hydrocephalus => "HCP",
            Self::Edema => "Edema",
            Self::Adrd => "ADRD",
            Self::Iph => "IPH",
            Self::Ivh => "IVH",
            Self::Sdh => "SDH",
            Self::Edh => "EDH",
            Self::Sah => "SAH",
            Self::Ich => "ICH",
        }
    }
}

impl fmt::Display for Disease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of the ten.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("disease: \"{0}\" is none of Tumor, HCP, Edema, ADRD, IPH, IVH, SDH, EDH, SAH, ICH")]
pub struct UnknownDisease(String);

impl FromStr for Disease {
    type Err = UnknownDisease;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|disease| disease.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownDisease(name.to_owned()))
    }
}

/// A set of diseases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiseaseSet(u16);

impl DiseaseSet {
    /// Whether the disease is in the set.
    #[must_use]
    pub const fn contains(self, disease: Disease) -> bool {
        self.0 & (1 << disease as u16) != 0
    }

    /// Adds the disease when `present`. A hemorrhage brings [`Disease::Ich`] with it.
    pub fn insert(&mut self, disease: Disease, present: bool) {
        if !present {
            return;
        }
        self.0 |= 1 << disease as u16;
        if Disease::HEMORRHAGES.contains(&disease) {
            self.0 |= 1 << Disease::Ich as u16;
        }
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The diseases in the set, in the order of [`Disease::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Disease> {
        Disease::ALL
            .into_iter()
            .filter(move |&disease| self.contains(disease))
    }
}

impl FromIterator<Disease> for DiseaseSet {
    fn from_iter<I: IntoIterator<Item = Disease>>(diseases: I) -> Self {
        let mut set = Self::default();
        for disease in diseases {
            set.insert(disease, true);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_hemorrhage_is_an_ich() {
        for disease in Disease::HEMORRHAGES {
            let set: DiseaseSet = [disease].into_iter().collect();
            assert!(set.contains(Disease::Ich), "{disease}");
        }
        let set: DiseaseSet = [Disease::Tumor].into_iter().collect();
        assert!(!set.contains(Disease::Ich));
    }

    #[test]
    fn names_are_read_in_any_case_and_others_are_refused() {
        assert_eq!("hcp".parse(), Ok(Disease::Hydrocephalus));
        assert_eq!(
            "ABC".parse::<Disease>(),
            Err(UnknownDisease("ABC".to_owned()))
        );
    }
}
