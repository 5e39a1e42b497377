//! Handshakes in memory: what TLS itself lets through. Over real sockets: the workspace's tests.

use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, HandshakeKind, NamedGroup,
    ProtocolVersion, ServerConfig, ServerConnection,
};
use rustls_pki_types::{ServerName, UnixTime};

use super::*;
use crate::{server_name, tls};

/// A clock that stands.
#[derive(Debug)]
struct Stopped(Timestamp);

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(crate::time::unix_time(self.0))
    }
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"fmct/1".to_vec()]
}

fn client(identity: &Identity, trust: &Trust) -> ClientConfig {
    tls::client_config(identity, trust, Arc::new(Stopped(NOW)), alpn()).unwrap()
}

fn server(identity: &Identity, trust: &Trust) -> ServerConfig {
    tls::server_config(identity, trust, Arc::new(Stopped(NOW)), alpn()).unwrap()
}

/// Runs a handshake to its end; the error is that of whoever refuses first.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> Result<(Connection, Connection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    pass(&mut server, &mut client)?;
    Ok((client, server))
}

fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn refused(error: rustls::Error) -> CertificateError {
    match error {
        rustls::Error::InvalidCertificate(reason) => reason,
        other => panic!("refused for another reason: {other}"),
    }
}

struct Two {
    consortium: Consortium,
    coordinator: Identity,
    site: Identity,
}

impl Two {
    fn new() -> Self {
        let mut consortium = Consortium::new("headct");
        let coordinator = consortium.admit("coordinator", Role::Coordinator);
        let site = consortium.admit("mgh", Role::Site);
        Self {
            consortium,
            coordinator,
            site,
        }
    }

    fn name(&self) -> String {
        server_name(self.consortium.authority.consortium().id())
    }

    fn meet(&self) -> Result<(Connection, Connection), rustls::Error> {
        let trust = self.consortium.trust();
        let ends = (
            client(&self.site, &trust),
            server(&self.coordinator, &trust),
        );
        handshake(ends.0, ends.1, &self.name())
    }
}

#[test]
fn members_meet_in_tls_1_3_with_post_quantum_keys_and_know_each_other() {
    let two = Two::new();
    let (client, server) = two.meet().unwrap();
    for end in [&client, &server] {
        assert_eq!(end.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(end.alpn_protocol(), Some(b"fmct/1".as_slice()));
        let group = end.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
    }
    let trust = two.consortium.trust();
    let peer = trust
        .client(server.peer_certificates().unwrap(), NOW)
        .unwrap();
    assert_eq!((peer.id(), peer.role()), (&id("mgh"), Role::Site));
    let peer = trust
        .coordinator(client.peer_certificates().unwrap(), NOW)
        .unwrap();
    assert_eq!(peer.role(), Role::Coordinator);
}

#[test]
fn nothing_is_resumed_so_revocation_holds_at_the_next_connection() {
    let mut two = Two::new();
    let trust = two.consortium.trust();
    let (ours, theirs) = (client(&two.site, &trust), server(&two.coordinator, &trust));
    for _ in 0..2 {
        let (end, _) = handshake(ours.clone(), theirs.clone(), &two.name()).unwrap();
        assert_eq!(end.handshake_kind(), Some(HandshakeKind::Full));
    }
    two.consortium.authority.revoke(&id("mgh"), NOW).unwrap();
    trust
        .update(two.consortium.authority.consortium().as_bytes())
        .unwrap();
    let error = handshake(ours, theirs, &two.name()).unwrap_err();
    assert_eq!(refused(error), CertificateError::Revoked);
}

#[test]
fn each_end_refuses_a_clock_outside_the_other_ends_certificate() {
    let two = Two::new();
    let trust = two.consortium.trust();
    let late = Stopped(NOW + 91 * DAY);
    let ours = tls::client_config(&two.site, &trust, Arc::new(late), alpn()).unwrap();
    let error = handshake(ours, server(&two.coordinator, &trust), &two.name()).unwrap_err();
    assert_eq!(refused(error), CertificateError::Expired);

    let early = Stopped(Timestamp(NOW.0 - 86_400_000));
    let theirs = tls::server_config(&two.coordinator, &trust, Arc::new(early), alpn()).unwrap();
    let error = handshake(client(&two.site, &trust), theirs, &two.name()).unwrap_err();
    assert_eq!(refused(error), CertificateError::NotValidYet);
}

#[test]
fn site_cannot_pose_as_coordinator() {
    let mut two = Two::new();
    let impostor = two.consortium.admit("ucsf", Role::Site);
    let trust = two.consortium.trust();
    let ends = (client(&two.site, &trust), server(&impostor, &trust));
    assert!(handshake(ends.0, ends.1, &two.name()).is_err());
}

#[test]
fn other_roots_names_and_versions_are_refused() {
    let two = Two::new();
    let trust = two.consortium.trust();
    let foreign = Two::new();
    let error = handshake(
        client(&foreign.site, &trust),
        server(&two.coordinator, &trust),
        &two.name(),
    );
    assert_eq!(refused(error.unwrap_err()), CertificateError::UnknownIssuer);
    let error = handshake(
        client(&two.site, &foreign.consortium.trust()),
        server(&two.coordinator, &trust),
        &two.name(),
    );
    assert_eq!(refused(error.unwrap_err()), CertificateError::UnknownIssuer);

    let ends = (client(&two.site, &trust), server(&two.coordinator, &trust));
    let error = handshake(ends.0, ends.1, "fl.example.org").unwrap_err();
    assert_eq!(refused(error), CertificateError::NotValidForName);

    let newer = tls::client_config(
        &two.site,
        &trust,
        Arc::new(Stopped(NOW)),
        vec![b"fmct/9".to_vec()],
    );
    let error = handshake(
        newer.unwrap(),
        server(&two.coordinator, &trust),
        &two.name(),
    );
    assert_eq!(error.unwrap_err(), rustls::Error::NoApplicationProtocol);
}

#[test]
fn client_without_a_certificate_is_refused() {
    let two = Two::new();
    let trust = two.consortium.trust();
    let mut bare = client(&two.site, &trust);
    bare.client_auth_cert_resolver = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
        .client_auth_cert_resolver;
    let error = handshake(bare, server(&two.coordinator, &trust), &two.name()).unwrap_err();
    assert_eq!(error, rustls::Error::NoCertificatesPresented);
}

/// One end of a connection as a stream: what is read was answered by a server in memory.
struct Loop(Connection);

impl std::io::Read for Loop {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let mut flight = Vec::new();
        while self.0.wants_write() && flight.len() < bytes.len() {
            self.0.write_tls(&mut flight)?;
        }
        bytes[..flight.len()].copy_from_slice(&flight);
        Ok(flight.len())
    }
}

impl std::io::Write for Loop {
    fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.read_tls(&mut bytes)?;
        // What the server thinks of us does not matter: we leave first.
        let _ = self.0.process_new_packets();
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_answers_is_named_whatever_its_certificate_is_worth() {
    let two = Two::new();
    let trust = two.consortium.trust();
    let ours = server(&two.coordinator, &trust);
    let mut stream = Loop(ServerConnection::new(Arc::new(ours)).unwrap().into());
    let answer = tls::who_answers(&mut stream, &two.name(), alpn()).unwrap();
    assert_eq!(answer.issuer, "CN=headct consortium root");
    assert!(trust.coordinator(&answer.chain, NOW).is_ok());

    // A proxy that opens TLS: another issuer, another kind of key.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![two.name()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Hospital Web Gateway");
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut proxy = ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate.der().clone()], key.into())
    .unwrap();
    proxy.alpn_protocols = vec![b"fmct/1".to_vec()];
    let mut stream = Loop(ServerConnection::new(Arc::new(proxy)).unwrap().into());
    let answer = tls::who_answers(&mut stream, &two.name(), alpn()).unwrap();
    assert_eq!(answer.issuer, "CN=Hospital Web Gateway");
    assert!(trust.coordinator(&answer.chain, NOW).is_err());
}
