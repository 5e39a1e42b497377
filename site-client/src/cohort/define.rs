//! Which codes and medications mean which disease.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::CohortError;

/// The definitions of Supplementary Table 1, as shipped.
const PAPER: &str = include_str!("diseases.toml");

/// Codes and medications of one disease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the task.
    pub name: String,
    codes: Vec<String>,
    medications: Vec<String>,
    includes: Vec<usize>,
}

/// All tasks that are read from health records, in the order of Supplementary Table 2 where they
/// are the paper's, else in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definitions {
    diseases: Vec<Definition>,
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    icd10: Vec<String>,
    #[serde(default)]
    medications: Vec<String>,
    #[serde(default)]
    includes: Vec<String>,
}

impl Definitions {
    /// The paper's ten diseases.
    #[must_use]
    pub fn paper() -> Self {
        Self::parse("diseases.toml", PAPER).expect("the shipped definitions are valid: tested")
    }

    /// Reads definitions from a TOML file of the same form as the shipped one.
    ///
    /// # Errors
    /// A file that cannot be read, a pattern that is no ICD-10 code, or an unknown disease included.
    pub fn read(path: &Path) -> Result<Self, CohortError> {
        let text = std::fs::read_to_string(path).map_err(CohortError::io(path))?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(source: &str, text: &str) -> Result<Self, CohortError> {
        let entries: BTreeMap<String, Entry> = toml::from_str(text)
            .map_err(|error| CohortError::rule(source, error.to_string(), "definitions"))?;
        let known = core_model::phantom::Disease::ALL.map(core_model::phantom::Disease::name);
        let rank = |name: &str| {
            known
                .iter()
                .position(|&other| other == name)
                .unwrap_or(known.len())
        };
        let mut names: Vec<&String> = entries.keys().collect();
        names.sort_by_key(|name| (rank(name), name.as_str()));
        let mut diseases = Vec::new();
        for &name in &names {
            let entry = &entries[name];
            let object = |pattern: &str| format!("{source}: {name}: pattern \"{pattern}\"");
            let codes = entry.icd10.iter().map(|pattern| {
                prefix(pattern).ok_or_else(|| {
                    CohortError::rule(
                        object(pattern),
                        "no ICD-10 code",
                        "a code such as I61.0 or I60.*",
                    )
                })
            });
            let includes = entry.includes.iter().map(|other| {
                names.iter().position(|&name| name == other).ok_or_else(|| {
                    CohortError::rule(
                        format!("{source}: {name}: includes"),
                        other,
                        "a disease of the file",
                    )
                })
            });
            diseases.push(Definition {
                name: name.clone(),
                codes: codes.collect::<Result<_, _>>()?,
                medications: entry
                    .medications
                    .iter()
                    .map(|drug| drug.to_uppercase())
                    .collect(),
                includes: includes.collect::<Result<_, _>>()?,
            });
        }
        let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
        Ok(Self { diseases, digest })
    }

    /// The tasks' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.diseases.iter().map(|disease| disease.name.as_str())
    }

    /// BLAKE3 of the text they were read from, hex: recorded with the labels.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Which tasks a diagnosis makes positive, `includes` not yet applied.
    pub(crate) fn matched_by_code(&self, code: &str) -> impl Iterator<Item = usize> {
        let code = plain(code);
        self.positions(move |disease| {
            disease
                .codes
                .iter()
                .any(|prefix| code.starts_with(prefix.as_str()))
        })
    }

    /// Which tasks a medication makes positive.
    pub(crate) fn matched_by_medication(&self, name: &str) -> impl Iterator<Item = usize> {
        let name = name.to_uppercase();
        self.positions(move |disease| {
            disease
                .medications
                .iter()
                .any(|drug| name.contains(drug.as_str()))
        })
    }

    /// Adds the positives that a disease takes in from others.
    pub(crate) fn close(&self, positive: &mut [bool]) {
        for (index, disease) in self.diseases.iter().enumerate() {
            positive[index] |= disease.includes.iter().any(|&other| positive[other]);
        }
    }

    fn positions(&self, matches: impl Fn(&Definition) -> bool) -> impl Iterator<Item = usize> {
        self.diseases
            .iter()
            .enumerate()
            .filter(move |(_, disease)| matches(disease))
            .map(|(i, _)| i)
    }
}

/// Whether a text looks like an ICD-10 code: a letter, a digit, a digit or letter, then up to four
/// more after an optional dot.
pub(crate) fn is_icd10(code: &str) -> bool {
    let plain = plain(code);
    let bytes = plain.as_bytes();
    (3..=7).contains(&bytes.len())
        && bytes[0].is_ascii_uppercase()
        && bytes[1].is_ascii_digit()
        && bytes[2..].iter().all(u8::is_ascii_alphanumeric)
}

/// A code without its dot, in upper case: ICD-10's dot always follows the third character.
fn plain(code: &str) -> String {
    code.chars()
        .filter(|&c| c != '.' && !c.is_whitespace())
        .collect::<String>()
        .to_uppercase()
}

/// What a code begins with if the pattern matches it.
fn prefix(pattern: &str) -> Option<String> {
    let stem = pattern.strip_suffix(".*").unwrap_or(pattern);
    is_icd10(stem).then(|| plain(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positives(code: &str) -> Vec<String> {
        let definitions = Definitions::paper();
        let names: Vec<&str> = definitions.names().collect();
        let mut positive = vec![false; names.len()];
        for index in definitions.matched_by_code(code) {
            positive[index] = true;
        }
        definitions.close(&mut positive);
        names
            .iter()
            .zip(positive)
            .filter(|(_, is)| *is)
            .map(|(name, _)| (*name).to_owned())
            .collect()
    }

    #[test]
    fn each_disease_is_matched_by_its_codes_and_by_no_neighbor() {
        // Disease, codes that make it positive, codes that must not.
        let table: [(&str, &[&str], &[&str]); 10] = [
            (
                "Tumor",
                &["C71.9", "c710", "C79.31", "D33.0", "D33.9"],
                &["C72.0", "C79.2", "D33.4", "D32.0"],
            ),
            ("HCP", &["G91", "G91.2", "G910"], &["G90.1", "G92"]),
            (
                "Edema",
                &["G93.1", "G93.5", "G936", "G93.82", "S06.1X0A"],
                &["G93.2", "G93.81", "S06.0X0A"],
            ),
            (
                "ADRD",
                &["G30.9", "F01.50", "F03", "G31.84", "G31.1", "G23.1"],
                &["G31.0", "G31.2", "G20", "F05", "G23.0"],
            ),
            (
                "IPH",
                &["I61.0", "I61.9", "I614"],
                &["I61", "I61.5", "I61.6", "I63.9"],
            ),
            (
                "IVH",
                &["I61.5", "P52.1", "P523"],
                &["P52.0", "P52.4", "I61.4"],
            ),
            (
                "SDH",
                &["S06.5X0A", "I62.00", "I62.03", "S065"],
                &["S06.4X0A", "I62.1", "I62.9"],
            ),
            ("EDH", &["S06.4X9A", "I62.1"], &["S06.5X9A", "I62.00"]),
            (
                "SAH",
                &["I60", "I60.9", "I6012", "S06.6X0A", "P52.5", "P10.3"],
                &["I61.0", "I67.1", "P10.4"],
            ),
            (
                "ICH",
                &[
                    "I61.6", "I62.9", "P10.9", "P52.4", "P52.9", "I61.0", "I61.5",
                ],
                &["I61", "I60.9", "S06.5X0A", "I62.00"],
            ),
        ];
        for (disease, positive, negative) in table {
            for code in positive {
                assert!(
                    positives(code).iter().any(|name| name == disease),
                    "{code} is {disease}"
                );
            }
            for code in negative {
                assert!(
                    !positives(code).iter().any(|name| name == disease),
                    "{code} is not {disease}"
                );
            }
        }
    }

    #[test]
    fn ich_is_the_union_the_table_gives_and_no_more() {
        // The table takes in IPH and IVH only: a subdural hematoma alone is no ICH by record.
        assert_eq!(positives("I61.0"), ["IPH", "ICH"]);
        assert_eq!(positives("I61.5"), ["IVH", "ICH"]);
        assert_eq!(positives("I62.00"), ["SDH"]);
    }

    #[test]
    fn medications_match_within_longer_texts_in_any_case() {
        let definitions = Definitions::paper();
        let adrd = definitions.names().position(|name| name == "ADRD").unwrap();
        for name in [
            "DONEPEZIL",
            "donepezil hydrochloride 10 MG Oral Tablet",
            "Namenda (memantine) 5mg",
        ] {
            assert_eq!(
                definitions.matched_by_medication(name).collect::<Vec<_>>(),
                [adrd],
                "{name}"
            );
        }
        assert_eq!(
            definitions
                .matched_by_medication("levetiracetam 500 mg")
                .count(),
            0
        );
    }

    #[test]
    fn a_pattern_that_is_no_code_is_refused() {
        let error = Definitions::parse("d.toml", "[X]\nicd10 = [\"stroke\"]")
            .unwrap_err()
            .to_string();
        assert!(error.contains("X: pattern \"stroke\""), "{error}");
        let error = Definitions::parse("d.toml", "[X]\nincludes = [\"Y\"]")
            .unwrap_err()
            .to_string();
        assert!(error.contains("X: includes: Y"), "{error}");
    }
}
