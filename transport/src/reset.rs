//! How a coordinator that was killed and started again lets sites know at once.
//!
//! It has forgotten their connections, so it answers their packets with a stateless reset
//! (RFC 9000, section 10.3). A site believes it only with the token that came with the connection, so
//! tokens follow from the coordinator's key and not from the process. Without them a site would find
//! out when its connection has been idle for too long.

use std::sync::Arc;

use certs::Identity;
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::{CryptoError, HmacKey};

/// Settings of an endpoint that knows the connection ids of its earlier processes.
pub(crate) fn endpoint_config(identity: &Identity) -> EndpointConfig {
    // Ed25519 signs the same bytes the same way each time (RFC 8032), and this signature goes nowhere.
    let secret = blake3::derive_key(CONTEXT, &identity.sign(CONTEXT, b""));
    let ids = blake3::keyed_hash(&secret, b"connection ids");
    let (ids, _) = ids.as_bytes().split_first_chunk().expect("32 bytes");
    let ids = u64::from_le_bytes(*ids);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(secret)));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// Makes the tokens; whoever knows it can end connections, and nothing else.
struct ResetKey([u8; blake3::KEY_LEN]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = blake3::keyed_hash(&self.0, data);
        // Compares in constant time.
        if expected == *signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

const CONTEXT: &str = "fmct 2026-11 stateless reset v1";
