//! Statements with a signature. The signature itself is made and checked by `certs`.
//!
//! The encoding is not canonical, so what is signed is the bytes as they were sent: they are kept,
//! and never encoded again.

use std::fmt;
use std::marker::PhantomData;

use bincode::{Decode, Encode};

use crate::bounded::List;
use crate::codec::{self, CodecError};
use crate::ids::Digest;

/// Bytes of an Ed25519 signature (RFC 8032).
pub const SIGNATURE_LEN: usize = 64;
/// Longest statement, in bytes.
pub const MAX_STATEMENT_LEN: usize = 4096;

/// Something that is only worth its signature.
pub trait Statement: Encode + Decode<()> {
    /// Text that keeps signatures for one purpose from being used for another.
    const CONTEXT: &'static str;
}

/// A statement with the signature of whoever makes it.
///
/// What it says can only be had by giving a way to check the signature.
#[derive(Clone, Eq, PartialEq, Encode, Decode)]
pub struct Signed<T: 'static> {
    bytes: List<u8, MAX_STATEMENT_LEN>,
    signature: [u8; SIGNATURE_LEN],
    statement: PhantomData<T>,
}

/// Why a signed statement is not believed.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Signed by somebody else, or changed since.
    #[error("{context}: wrong signature")]
    Signature {
        /// What was signed.
        context: &'static str,
    },
    /// The signed bytes say nothing sensible.
    #[error("{context}: malformed")]
    Malformed {
        /// What was signed.
        context: &'static str,
        /// What is wrong.
        #[source]
        source: CodecError,
    },
}

impl<T: Statement> Signed<T> {
    /// Signs `statement` with `sign(context, bytes)`.
    ///
    /// # Errors
    /// If the statement is longer than [`MAX_STATEMENT_LEN`].
    pub fn new(
        statement: &T,
        sign: impl FnOnce(&str, &[u8]) -> [u8; SIGNATURE_LEN],
    ) -> Result<Self, CodecError> {
        let bytes = codec::encode_body(statement)?;
        let len = bytes.len();
        let bytes = List::new(bytes).map_err(|_| CodecError::Oversized { len })?;
        let signature = sign(T::CONTEXT, &bytes);
        Ok(Self {
            bytes,
            signature,
            statement: PhantomData,
        })
    }

    /// What it says, if `verify(context, bytes, signature)` holds.
    ///
    /// # Errors
    /// If it does not hold, or the bytes are no such statement.
    pub fn open(
        &self,
        verify: impl FnOnce(&str, &[u8], &[u8; SIGNATURE_LEN]) -> bool,
    ) -> Result<T, StatementError> {
        let context = T::CONTEXT;
        if !verify(context, &self.bytes, &self.signature) {
            return Err(StatementError::Signature { context });
        }
        codec::decode_body(&self.bytes)
            .map_err(|source| StatementError::Malformed { context, source })
    }

    /// Statement and signature as bytes, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.bytes, &self.signature[..]].concat()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// If there are too few or too many bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let len = bytes.len();
        let (body, signature) = bytes
            .split_last_chunk()
            .ok_or(CodecError::Truncated { len })?;
        let body = List::new(body.to_vec()).map_err(|_| CodecError::Oversized { len })?;
        Ok(Self {
            bytes: body,
            signature: *signature,
            statement: PhantomData,
        })
    }

    /// Digest of statement and signature: a name for it in journals.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl<T: Statement> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({}, {:?})", T::CONTEXT, self.digest())
    }
}
