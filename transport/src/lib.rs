//! The pump: QUIC (and TLS over TCP where UDP is blocked) under the protocol, and the blob store.
