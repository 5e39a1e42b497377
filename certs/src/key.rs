//! Ed25519 keys (RFC 8032): the whole identity of a site is one of these.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::fingerprint::Fingerprint;
use crate::hex;

/// A private key. It signs, it can be written to a [key file](crate::key_file), and nothing shows it.
pub struct PrivateKey {
    pair: Ed25519KeyPair,
    /// PKCS#8 version 1, as key files and rustls want it.
    pkcs8: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Randomness`] if the operating system gives none.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|Unspecified| KeyError::Randomness)?;
        let document = pair
            .to_pkcs8v1()
            .map_err(|Unspecified| KeyError::Randomness)?;
        Ok(Self {
            pair,
            pkcs8: Zeroizing::new(document.as_ref().to_vec()),
        })
    }

    /// Reads a PKCS#8 document (RFC 5958).
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`] for anything but an Ed25519 private key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map_err(|_rejected| KeyError::NotEd25519)?;
        Ok(Self {
            pair,
            pkcs8: Zeroizing::new(der.to_vec()),
        })
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; PublicKey::LENGTH];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs `message` for one purpose; see [`PublicKey::verify`].
    pub fn sign(&self, context: &str, message: &[u8]) -> [u8; PublicKey::SIGNATURE_LENGTH] {
        let mut bytes = [0; PublicKey::SIGNATURE_LENGTH];
        bytes.copy_from_slice(self.pair.sign(&in_context(context, message)).as_ref());
        bytes
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn for_rustls(&self) -> PrivatePkcs8KeyDer<'_> {
        PrivatePkcs8KeyDer::from(self.pkcs8.as_slice())
    }
}

/// Shows the public half only: logs and errors must not carry the private one.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("public", &self.public())
            .finish_non_exhaustive()
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// For X.509 only, where the signed bytes are the certificate's own.
impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

/// A public key: who somebody is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; Self::LENGTH]);

impl PublicKey {
    /// Bytes of a public key.
    pub const LENGTH: usize = 32;
    /// Bytes of a signature.
    pub const SIGNATURE_LENGTH: usize = 64;

    /// Takes the 32 bytes of RFC 8032.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of RFC 8032.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Reads a DER `SubjectPublicKeyInfo` (RFC 8410).
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`] for any other kind of key.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        der.strip_prefix(&SPKI_PREFIX)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(KeyError::NotEd25519)
    }

    /// The DER `SubjectPublicKeyInfo` (RFC 8410).
    pub fn to_spki(self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`: what two people compare over the telephone.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.to_spki())
    }

    /// Checks that the owner of this key signed `message` for the purpose `context` names.
    ///
    /// The context keeps a signature of one kind (a manifest, say) from passing as another (a
    /// consortium file). What is signed is `"fmct/1 "`, the context, a zero byte, the message.
    ///
    /// # Errors
    /// [`BadSignature`] if not.
    pub fn verify(
        &self,
        context: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        self.verify_raw(&in_context(context, message), signature)
    }

    /// Checks a signature over exactly these bytes, as X.509 makes them.
    pub(crate) fn verify_raw(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|Unspecified| BadSignature)
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// `ed25519:` and 64 hexadecimal digits, as in the consortium file.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TEXT_PREFIX}{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.strip_prefix(TEXT_PREFIX)
            .and_then(hex::decode)
            .map(Self)
            .ok_or(KeyError::NotEd25519)
    }
}

/// A signature that its alleged author did not make over these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature: not made by this key over these bytes")]
pub struct BadSignature;

/// Fresh random bytes, for serial numbers and salts.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|Unspecified| KeyError::Randomness)?;
    Ok(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    digest
}

fn in_context(context: &str, message: &[u8]) -> Vec<u8> {
    [b"fmct/1 ", context.as_bytes(), &[0], message].concat()
}

const TEXT_PREFIX: &str = "ed25519:";

/// `SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING (256 bits) }` up to the key itself.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 section 7.1, test 2: seed, public key, signature of the byte 0x72.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: [&str; 2] = [
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ];

    fn rfc8032_key() -> PrivateKey {
        let seed: [u8; 32] = hex::decode(SEED).unwrap();
        let prefix = [
            0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
        ];
        PrivateKey::from_pkcs8(&[prefix.as_slice(), &seed].concat()).unwrap()
    }

    #[test]
    fn key_pair_is_the_one_of_rfc_8032() {
        let key = rfc8032_key();
        assert_eq!(hex::encode(key.public().as_bytes()), PUBLIC);
        assert_eq!(
            hex::encode(&SigningKey::sign(&key, &[0x72]).unwrap()),
            SIGNATURE.concat()
        );
    }

    #[test]
    fn signature_is_bound_to_key_context_and_message() {
        let (key, other) = (rfc8032_key(), PrivateKey::generate().unwrap());
        let signature = key.sign("manifest", b"bytes");
        assert_eq!(
            key.public().verify("manifest", b"bytes", &signature),
            Ok(())
        );
        assert_eq!(
            key.public().verify("manifest", b"byteS", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            key.public().verify("consortium", b"bytes", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            other.public().verify("manifest", b"bytes", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            key.public().verify("manifest", b"bytes", &signature[1..]),
            Err(BadSignature)
        );
    }

    #[test]
    fn public_key_survives_its_two_encodings() {
        let key = PrivateKey::generate().unwrap().public();
        assert_eq!(PublicKey::from_spki(&key.to_spki()), Ok(key));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.subject_public_key_info(), key.to_spki());
        assert_eq!(
            PublicKey::from_spki(&key.to_spki()[1..]),
            Err(KeyError::NotEd25519)
        );
    }

    #[test]
    fn debug_shows_no_private_byte() {
        let shown = format!("{:?}", rfc8032_key());
        assert!(shown.contains(PUBLIC));
        assert!(!shown.contains(&SEED[..8]));
    }
}
