//! Identity: who may talk to whom. The only source of a site's identity is a verified certificate.
//!
//! A consortium has one root key. It signs two things: a short-lived certificate for each member's
//! own key, and the [consortium file](Consortium), the version-counted list of those keys with their
//! roles and status. A peer is let in if its certificate chains to the pinned root **and** the
//! newest consortium file lists its key as active under the same name and role; both are checked at
//! each connection ([`tls`]) and again while it lasts ([`Trust::check`]). Only these checks make a
//! [`VerifiedPeer`], and nothing else yields a peer's name or role.
//!
//! No clock is read here: the time is an argument.

mod approval;
mod authority;
mod authority_home;
mod certificate;
mod consortium;
mod error;
mod files;
mod fingerprint;
mod hex;
mod home;
mod identity;
mod key;
pub mod key_file;
mod member;
mod peer;
mod request;
mod time;
pub mod tls;
mod trust;
mod words;

pub use approval::{Approval, read_certificate};
pub use authority::Authority;
pub use authority_home::AuthorityHome;
pub use certificate::{
    CLOCK_SKEW, LEAF_LIFETIME, Leaf, RENEWAL_LEFT, ROOT_LIFETIME, RootCertificate,
};
pub use consortium::Consortium;
pub use error::{ConsortiumError, Error, KeyError};
pub use fingerprint::{Fingerprint, Pin};
pub use home::Home;
pub use identity::Identity;
pub use key::{BadSignature, PrivateKey, PublicKey};
pub use key_file::Passphrase;
pub use member::{Member, Status, server_name};
pub use peer::{Refusal, VerifiedPeer};
pub use request::Request;
pub use time::{Bound, utc};
pub use trust::Trust;

#[cfg(test)]
mod tests;
