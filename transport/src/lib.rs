//! The pump: QUIC (and TLS over TCP where UDP is blocked) under the protocol, and the blob store.

mod backoff;
mod bucket;
mod clock;
mod config;
mod connector;
mod error;
mod link;
mod listener;
mod lock;
pub mod logging;
mod pipe;
mod probe;
mod quic;
mod reset;
mod settings;
mod socket;
mod store;
mod tcp;
mod transfer;

pub use backoff::Backoff;
pub use bucket::{Bucket, BucketError};
pub use config::{Config, ConfigError, Congestion, PathChoice};
pub use connector::Connector;
pub use error::{ConnectError, LinkError, SetupError, TransferError};
pub use link::{Link, Packets, Path};
pub use listener::Listener;
pub use lock::FileLock;
pub use probe::{Throughput, measure};
pub use settings::SettingsError;
pub use store::{Blob, BlobReader, BlobStore, BlobWriter, Collected, StoreError};
pub use transfer::{Transferred, receive_blob, send_blob, take_blob};
