//! What can go wrong on our side. What a peer can do wrong is a [`Refusal`](crate::Refusal).

use std::io;
use std::path::PathBuf;

use protocol::{Role, SiteId, Timestamp};

use crate::fingerprint::{Fingerprint, Pin};
use crate::peer::Refusal;
use crate::time::utc;

/// A key, a fingerprint or randomness that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither 64 hexadecimal digits nor sixteen words.
    #[error(
        "fingerprint: {found} words, expected {} words or 64 hexadecimal digits",
        Pin::WORDS
    )]
    Fingerprint {
        /// Words found.
        found: usize,
    },
    /// A word that the list does not have at this place.
    #[error("fingerprint: word {position} is {word:?}, which the list does not have there")]
    FingerprintWord {
        /// Place of the word, from 1.
        position: usize,
        /// The word found.
        word: String,
    },
    /// Not an Ed25519 key.
    #[error("key: not an Ed25519 key")]
    NotEd25519,
    /// The operating system has no randomness to give.
    #[error("key: the operating system gave no random bytes")]
    Randomness,
}

/// A consortium file that must not be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsortiumError {
    /// A second file with the version of the one we know, and other contents.
    #[error("consortium file: two different files carry version {version}")]
    Forked {
        /// The version of both.
        version: u64,
    },
    /// Not the form of a consortium file.
    #[error("consortium file: {0}")]
    Malformed(String),
    /// A file that contradicts itself.
    #[error("consortium file: member {name}: {rule}")]
    Member {
        /// Name of the member.
        name: String,
        /// The rule broken.
        rule: &'static str,
    },
    /// A file of another consortium.
    #[error("consortium file: of consortium {found:?}, expected {expected:?}")]
    OtherConsortium {
        /// Name in the file.
        found: String,
        /// Name of our consortium.
        expected: String,
    },
    /// An older file than one already seen: somebody hides a revocation.
    #[error("consortium file: version {found}, but version {seen} was seen before")]
    Older {
        /// Version of the file.
        found: u64,
        /// Newest version seen.
        seen: u64,
    },
    /// Not signed by the root key.
    #[error("consortium file: not signed by the consortium's root key")]
    Signature,
    /// More bytes than a consortium file may have.
    #[error("consortium file: {found} bytes, expected at most {limit}")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// What can go wrong with keys, certificates and their files on our side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member of that name is active already.
    #[error("member {id}: active already; revoke it first to admit it with another key")]
    AlreadyActive {
        /// Name of the member.
        id: SiteId,
    },
    /// A certificate of ours cannot be read or made.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The certificate we were given is not one we can use.
    #[error("certificate: not accepted by our own checks")]
    Unacceptable(#[from] Refusal),
    /// The consortium file cannot be used.
    #[error(transparent)]
    Consortium(#[from] ConsortiumError),
    /// A file that must not be overwritten.
    #[error("{}: exists already, and a key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{}: cannot be {action}", path.display())]
    File {
        /// What was tried: `read`, `written`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A key, fingerprint or randomness failure.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A peer asks for its next certificate and has one that lasts.
    #[error("member {id}: certificate runs until {}, not due to be renewed", utc(*.expires))]
    NotDue {
        /// The peer that asks.
        id: SiteId,
        /// When its newest certificate runs out.
        expires: Timestamp,
    },
    /// A peer asks for a certificate that is not its own.
    #[error("request: {id} asks for another name or key than its own")]
    NotItsRequest {
        /// The peer that asks.
        id: SiteId,
    },
    /// A passphrase file without a passphrase.
    #[error("{}: first line is empty, expected a passphrase", path.display())]
    PassphraseEmpty {
        /// The passphrase file.
        path: PathBuf,
    },
    /// The key file is encrypted and no passphrase was given.
    #[error("{}: encrypted, a passphrase is needed", path.display())]
    PassphraseNeeded {
        /// The key file.
        path: PathBuf,
    },
    /// The passphrase does not open the key file.
    #[error("{}: the passphrase does not open it, or it is damaged", path.display())]
    PassphraseWrong {
        /// The key file.
        path: PathBuf,
    },
    /// A file of secrets that others can read.
    #[error("{}: mode {mode:04o}, expected 0600 (chmod 600)", path.display())]
    Permissive {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A certificate signing request that is not acceptable.
    #[error("request: {0}")]
    Request(String),
    /// The key of the request was revoked before.
    #[error("request: key {key} of {id} was revoked; make a new key")]
    RevokedKey {
        /// Name the key belonged to.
        id: SiteId,
        /// Fingerprint of the key.
        key: Fingerprint,
    },
    /// The root certificate is not the one whose fingerprint was told.
    #[error("root certificate: fingerprint {found}, but {told} was told")]
    Root {
        /// Fingerprint of the certificate found.
        found: Fingerprint,
        /// What we were told.
        told: Pin,
    },
    /// rustls refuses our keys or certificates.
    #[error("tls: our configuration is refused")]
    Tls(#[from] rustls::Error),
    /// No active member of that name.
    #[error("member {id}: not an active member of the consortium")]
    UnknownMember {
        /// The name.
        id: SiteId,
    },
    /// A certificate for another role or name than expected.
    #[error("certificate: issued to {role} {id}, expected {expected}")]
    WrongHolder {
        /// Name in the certificate.
        id: SiteId,
        /// Role in the certificate.
        role: Role,
        /// Whom it should have been issued to.
        expected: String,
    },
}
