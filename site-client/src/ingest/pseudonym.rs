//! Pseudonyms: keyed hashes under a key that stays in the cohort's folder.

use std::fs;
use std::path::Path;

use rand::Rng;

use super::{IngestError, private};

/// Turns identifiers of a PACS into pseudonyms of a cohort.
pub struct Pseudonyms {
    key: [u8; blake3::KEY_LEN],
}

impl Pseudonyms {
    /// Reads the cohort's key, or makes one (file mode 0600).
    ///
    /// # Errors
    /// A key that cannot be read or written, or is not 32 bytes long.
    pub fn open(cohort: &Path) -> Result<Self, IngestError> {
        let path = cohort.join(KEY_FILE);
        if !path.exists() {
            let mut key = [0; blake3::KEY_LEN];
            rand::rng().fill_bytes(&mut key);
            private::write(&path, &key)?;
        }
        let bytes = fs::read(&path).map_err(IngestError::io("read", &path))?;
        let key = bytes
            .as_slice()
            .try_into()
            .map_err(|_| IngestError::Corrupt {
                path,
                rule: "a pseudonym key has 32 bytes",
            })?;
        Ok(Self { key })
    }

    /// The pseudonym of a patient.
    #[must_use]
    pub fn patient(&self, identifier: &str) -> String {
        self.hash("patient", identifier)
    }

    /// The identifier of a scan.
    #[must_use]
    pub fn scan(&self, identifier: &str) -> String {
        self.hash("scan", identifier)
    }

    fn hash(&self, purpose: &str, identifier: &str) -> String {
        let hash = blake3::keyed_hash(&self.key, format!("{purpose}\0{identifier}").as_bytes());
        hash.to_hex()[..PSEUDONYM_DIGITS].to_owned()
    }
}

/// Never shows the key.
impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

const KEY_FILE: &str = "pseudonym.key";

/// 64 bits: no two of a million patients share one, with odds of 1 in 30 million.
const PSEUDONYM_DIGITS: usize = 16;
