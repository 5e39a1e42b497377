//! HTTP CONNECT (RFC 9110 §9.3.6): a tunnel through the proxy that a hospital may demand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::ConnectError;

/// Asks the proxy at the other end of `stream` for a tunnel to `target`, as `host:port`.
pub(crate) async fn connect(stream: &mut TcpStream, target: &str) -> Result<(), ConnectError> {
    let lost = |error: std::io::Error| ConnectError::Proxy(error.to_string());
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    // One byte at a time: what follows the head belongs to TLS.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD_LEN {
            return Err(ConnectError::Proxy("answer has no end".to_owned()));
        }
        head.push(stream.read_u8().await.map_err(lost)?);
    }
    check(&head)
}

fn check(head: &[u8]) -> Result<(), ConnectError> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.splitn(3, ' ');
    let is_http = words
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next() {
        Some(status) if is_http && status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(ConnectError::Proxy(format!(
            "answered {:?}",
            line.trim_end()
        ))),
    }
}

const MAX_HEAD_LEN: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_opens_the_tunnel() {
        assert!(check(b"HTTP/1.1 200 Connection established\r\n\r\n").is_ok());
        assert!(check(b"HTTP/1.0 200\r\nVia: x\r\n\r\n").is_ok());
        for refused in [
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            b"HTTP/1.1 403 Forbidden\r\n\r\n",
            b"HTTP/1.1 2000 no\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert!(check(refused).is_err());
        }
        let error = check(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "proxy: answered \"HTTP/1.1 403 Forbidden\""
        );
    }
}
