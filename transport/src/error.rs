//! Why a connection was not made, or ended.

use std::io;

use certs::Refusal;
use protocol::CloseCode;
use protocol::codec::CodecError;
use protocol::message::Reason;

use crate::config::ConfigError;
use crate::store::StoreError;

/// Why a listener or connector cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A setting out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No socket.
    #[error("socket: {what}")]
    Socket {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The key or certificate cannot be used.
    #[error("identity cannot be used for TLS")]
    Identity(#[from] certs::Error),
    /// TLS without a cipher suite that QUIC needs.
    #[error("TLS settings do not suit QUIC: {0}")]
    Quic(String),
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address.
    #[error("{host}: name could not be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer for that long.
    #[error("{path}: no answer within {seconds} s")]
    TimedOut {
        /// `UDP` or `TCP`.
        path: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection was refused or broke during the handshake.
    #[error("{path}: {reason}")]
    Failed {
        /// `UDP` or `TCP`.
        path: &'static str,
        /// What happened.
        reason: String,
    },
    /// The HTTP proxy did not open a tunnel.
    #[error("proxy: {0}")]
    Proxy(String),
    /// Whoever answered is not our coordinator.
    #[error("peer is not our coordinator")]
    Peer(#[from] Refusal),
    /// The peer speaks no version that is spoken here; or whoever answered says so. It is told by an
    /// alert of the handshake, before any certificate is shown, and not authenticated: any TLS server
    /// that knows none of our names for a version sends the same.
    #[error(
        "peer speaks no protocol version that is spoken here: the older program must be upgraded"
    )]
    Version,
}

/// Why a link is over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// One of the two ends closed it.
    #[error("closed by {}: {code}", if *.by_peer { "peer" } else { "us" })]
    Closed {
        /// Why.
        code: CloseCode,
        /// Which end.
        by_peer: bool,
    },
    /// The network broke it.
    #[error("connection lost: {0}")]
    Lost(String),
    /// A message that does not fit a frame.
    #[error("message cannot be sent: {0}")]
    Unsendable(String),
}

impl LinkError {
    pub(crate) fn closed(code: CloseCode) -> Self {
        Self::Closed {
            code,
            by_peer: false,
        }
    }

    pub(crate) fn closed_by_peer(code: CloseCode) -> Self {
        Self::Closed {
            code,
            by_peer: true,
        }
    }

    /// Whether a new connection may do better.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Closed { code, .. } => code.is_temporary(),
            Self::Lost(_) => true,
            Self::Unsendable(_) => false,
        }
    }
}

impl From<CodecError> for LinkError {
    fn from(error: CodecError) -> Self {
        Self::Unsendable(error.to_string())
    }
}

/// Why a blob was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The link ended; try again on the next one.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer refused.
    #[error("refused by peer: {0}")]
    Rejected(Reason),
    /// The peer's answer makes no sense; it was told so.
    #[error("peer's fault: {0}")]
    Peer(String),
    /// Our disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The same blob is already on its way over this link.
    #[error("blob is already on its way over this link")]
    Busy,
}
