//! Key files: PKCS#8 in PEM, mode 0600, encrypted if a passphrase is given (RFC 5958, RFC 8018).

use std::fmt;
use std::path::Path;

use pkcs8::der::pem::LineEnding;
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::error::{Error, KeyError};
use crate::files;
use crate::key::{self, PrivateKey};

/// What opens an encrypted key file.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase as it is typed; the end of its line does not belong to it.
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(
            text.trim_end_matches(['\r', '\n']).to_owned(),
        ))
    }

    /// Reads the passphrase from the first line of a file of mode 0600.
    ///
    /// # Errors
    /// [`Error::Permissive`] if others can read the file, [`Error::PassphraseEmpty`] if its first
    /// line is empty, [`Error::File`] if we cannot read it.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let bytes = Zeroizing::new(files::read_secret(path)?);
        let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let first = text.lines().next().unwrap_or_default();
        if first.is_empty() {
            return Err(Error::PassphraseEmpty {
                path: path.to_owned(),
            });
        }
        Ok(Self::new(first.to_owned()))
    }
}

/// Shows nothing.
impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Writes a key where no file is yet.
///
/// # Errors
/// [`Error::Exists`] rather than overwriting anything.
pub fn create(path: &Path, key: &PrivateKey, passphrase: Option<&Passphrase>) -> Result<(), Error> {
    let pem = match passphrase {
        None => SecretDocument::try_from(key.pkcs8())
            .and_then(|document| document.to_pem(PLAIN, LineEnding::LF)),
        Some(passphrase) => {
            let document = encrypt(key, passphrase)?;
            document.to_pem(ENCRYPTED, LineEnding::LF)
        }
    };
    let pem = pem.map_err(|error| Error::Certificate(format!("key: {error}")))?;
    files::create_secret(path, pem.as_bytes())
}

/// Reads a key.
///
/// # Errors
/// [`Error::Permissive`] if others can read the file, [`Error::PassphraseNeeded`] or
/// [`Error::PassphraseWrong`] if it is encrypted, [`Error::Key`] if it holds no Ed25519 key.
pub fn read(path: &Path, passphrase: Option<&Passphrase>) -> Result<PrivateKey, Error> {
    let pem = Zeroizing::new(files::read_secret(path)?);
    let text = str::from_utf8(&pem).map_err(|_| KeyError::NotEd25519)?;
    let (label, document) = SecretDocument::from_pem(text).map_err(|_| KeyError::NotEd25519)?;
    match label {
        PLAIN => Ok(PrivateKey::from_pkcs8(document.as_bytes())?),
        ENCRYPTED => {
            let Some(passphrase) = passphrase else {
                return Err(Error::PassphraseNeeded {
                    path: path.to_owned(),
                });
            };
            let wrong = || Error::PassphraseWrong {
                path: path.to_owned(),
            };
            let encrypted =
                EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| wrong())?;
            let opened = encrypted
                .decrypt(passphrase.0.as_bytes())
                .map_err(|_| wrong())?;
            PrivateKey::from_pkcs8(opened.as_bytes()).map_err(|_| wrong())
        }
        _ => Err(KeyError::NotEd25519.into()),
    }
}

fn encrypt(key: &PrivateKey, passphrase: &Passphrase) -> Result<SecretDocument, Error> {
    let not_made = |what: String| Error::Certificate(format!("key: cannot be encrypted: {what}"));
    let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P)
        .map_err(|error| not_made(error.to_string()))?;
    let (salt, iv) = (key::random::<16>()?, key::random::<16>()?);
    let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|error| not_made(error.to_string()))?;
    PrivateKeyInfoRef::try_from(key.pkcs8())
        .and_then(|info| info.encrypt_with_params(scheme, passphrase.0.as_bytes()))
        .map_err(|error| not_made(error.to_string()))
}

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// 16 MiB and a few tens of milliseconds per guess; `openssl pkey` opens the file.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
