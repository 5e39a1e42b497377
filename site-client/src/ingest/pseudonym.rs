//! Pseudonyms: keyed hashes under a key that stays in the cohort's folder.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
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
    /// A key that cannot be read or written, that others can read, or that is not 32 bytes long.
    pub fn open(cohort: &Path) -> Result<Self, IngestError> {
        let path = cohort.join(KEY_FILE);
        if !path.exists() {
            let mut key = [0; blake3::KEY_LEN];
            rand::rng().fill_bytes(&mut key);
            private::write(&path, &key)?;
        }
        let key = read(&path).map_err(IngestError::io("use", path))?;
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

/// Whoever has the key can try identifiers until a pseudonym matches.
fn read(path: &Path) -> io::Result<[u8; blake3::KEY_LEN]> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let rule = format!("mode {mode:04o}, expected 0600 (chmod 600)");
        return Err(io::Error::new(ErrorKind::PermissionDenied, rule));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    bytes.as_slice().try_into().map_err(|_| {
        let rule = format!("a pseudonym key has 32 bytes, found {}", bytes.len());
        io::Error::new(ErrorKind::InvalidData, rule)
    })
}

const KEY_FILE: &str = "pseudonym.key";

/// 64 bits: no two of a million patients share one, with odds of 1 in 30 million.
const PSEUDONYM_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs::{self, Permissions};

    use super::*;

    fn refused(cohort: &Path) -> String {
        let error = Pseudonyms::open(cohort).unwrap_err();
        let path = cohort.join(KEY_FILE);
        assert_eq!(error.to_string(), format!("{}: cannot use", path.display()));
        error.source().unwrap().to_string()
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let cohort = tempfile::tempdir().unwrap();
        let first = Pseudonyms::open(cohort.path()).unwrap().patient("7");
        let path = cohort.path().join(KEY_FILE);
        for loose in [0o604, 0o640, 0o644, 0o660] {
            fs::set_permissions(&path, Permissions::from_mode(loose)).unwrap();
            let rule = format!("mode {loose:04o}, expected 0600 (chmod 600)");
            assert_eq!(refused(cohort.path()), rule);
        }
        for strict in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(strict)).unwrap();
            let again = Pseudonyms::open(cohort.path()).unwrap().patient("7");
            assert_eq!(again, first, "the same key");
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let cohort = tempfile::tempdir().unwrap();
        private::write(&cohort.path().join(KEY_FILE), &[7; 31]).unwrap();
        let rule = "a pseudonym key has 32 bytes, found 31";
        assert_eq!(refused(cohort.path()), rule);
    }
}
