//! Certificates (X.509 v3, RFC 5280): one self-signed root, and below it one leaf per member.
//!
//! A leaf names its holder in a URI, `fmct://CONSORTIUM/ROLE/NAME`, and nowhere else.

use std::time::Duration;

use protocol::{ConsortiumId, Role, SiteId, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::key::{self, PrivateKey, PublicKey};
use crate::member::server_name;

/// How long a member's certificate is valid: short, because renewal is automatic.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// What is left of a member's certificate when it is time for the next one: a third of its life.
pub const RENEWAL_LEFT: Duration = Duration::from_secs(LEAF_LIFETIME.as_secs() / 3);

/// How long the root is valid.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);

/// How far a certificate is dated back, so that a clock that is a little slow accepts it.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The root certificate of a consortium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCertificate {
    der: CertificateDer<'static>,
    key: PublicKey,
}

impl RootCertificate {
    pub(crate) fn found(
        name: &ConsortiumId,
        key: &PrivateKey,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let mut params = params(&format!("{name} consortium root"), now, ROOT_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(key).map_err(not_made)?;
        Ok(Self {
            der: certificate.into(),
            key: key.public(),
        })
    }

    /// Reads a root certificate: self-signed with Ed25519, and allowed to sign others.
    ///
    /// # Errors
    /// [`Error::Certificate`] if it is not that.
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, Error> {
        let parsed = parse(&der)?;
        let key = PublicKey::from_spki(parsed.public_key().raw)?;
        if !parsed.is_ca() {
            return Err(Error::Certificate(
                "root: not a certificate authority".to_owned(),
            ));
        }
        key.verify_raw(
            parsed.tbs_certificate.as_ref(),
            &parsed.signature_value.data,
        )
        .map_err(|_| Error::Certificate("root: not signed by itself".to_owned()))?;
        Ok(Self { der, key })
    }

    /// The certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The key that signs certificates and consortium files.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// SHA-256 of the DER, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }
}

/// What a member's certificate says. Saying is not proving: only
/// [`Trust`](crate::Trust) turns a certificate into a [`VerifiedPeer`](crate::VerifiedPeer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Name of the consortium.
    pub consortium: ConsortiumId,
    /// Role of the holder.
    pub role: Role,
    /// Name of the holder.
    pub id: SiteId,
    /// Key of the holder.
    pub key: PublicKey,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl Leaf {
    /// Reads what `der` says, without believing it.
    ///
    /// # Errors
    /// [`Error::Certificate`] if it is not a certificate of ours.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(der)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| Error::Certificate("its alternative names cannot be read".to_owned()))?;
        let mut uris = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(Error::Certificate(
                "not exactly one URI names its holder".to_owned(),
            ));
        };
        let (consortium, role, id) = read_uri(uri)
            .ok_or_else(|| Error::Certificate(format!("URI {uri:?} names no member")))?;
        let validity = parsed.validity();
        Ok(Self {
            consortium,
            role,
            id,
            key: PublicKey::from_spki(parsed.public_key().raw)?,
            not_before: timestamp(validity.not_before.timestamp())?,
            not_after: timestamp(validity.not_after.timestamp())?,
        })
    }
}

/// Issues certificates in the name of the root.
pub(crate) fn issue(
    leaf: &Leaf,
    root: &RootCertificate,
    key: &PrivateKey,
) -> Result<CertificateDer<'static>, Error> {
    let lifetime = leaf.not_after.since(leaf.not_before);
    let mut params = params(leaf.id.as_str(), leaf.not_before, lifetime)?;
    params.subject_alt_names = vec![SanType::URI(ia5(&uri(leaf))?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if leaf.role == Role::Coordinator {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        params
            .subject_alt_names
            .push(SanType::DnsName(ia5(&server_name(&leaf.consortium))?));
    }
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(root.der(), key).map_err(not_made)?;
    Ok(params
        .signed_by(&leaf.key, &issuer)
        .map_err(not_made)?
        .into())
}

fn params(
    common_name: &str,
    not_before: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before =
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(not_before.as_secs());
    params.not_after = params.not_before + lifetime;
    // Positive, not zero and 126 bits of chance: RFC 5280 section 4.1.2.2.
    let mut serial = key::random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn uri(leaf: &Leaf) -> String {
    format!("{URI_SCHEME}{}/{}/{}", leaf.consortium, leaf.role, leaf.id)
}

fn read_uri(uri: &str) -> Option<(ConsortiumId, Role, SiteId)> {
    let mut parts = uri.strip_prefix(URI_SCHEME)?.split('/');
    let (consortium, role, id) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((consortium.parse().ok()?, read_role(role)?, id.parse().ok()?))
}

fn read_role(text: &str) -> Option<Role> {
    [Role::Coordinator, Role::Site, Role::Observer]
        .into_iter()
        .find(|role| role.to_string() == text)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error::Certificate("bytes after its end".to_owned())),
        Err(_) => Err(Error::Certificate(
            "not DER of an X.509 certificate".to_owned(),
        )),
    }
}

fn timestamp(seconds: i64) -> Result<Timestamp, Error> {
    u64::try_from(seconds)
        .map(|seconds| Timestamp(seconds.saturating_mul(1000)))
        .map_err(|_| Error::Certificate(format!("time {seconds} s is before 1970")))
}

fn ia5(text: &str) -> Result<Ia5String, Error> {
    Ia5String::try_from(text).map_err(not_made)
}

fn not_made(error: rcgen::Error) -> Error {
    Error::Certificate(format!("cannot be made: {error}"))
}

const URI_SCHEME: &str = "fmct://";
