//! Sockets with the buffers that throughput needs.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::config::Config;
use crate::error::SetupError;

/// A UDP socket with large buffers. The system may cap them; that costs throughput, no more.
pub(crate) fn udp(address: SocketAddr, config: &Config) -> Result<UdpSocket, SetupError> {
    let failed = |source| SetupError::Socket {
        what: format!("UDP, {address}"),
        source,
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )
    .map_err(failed)?;
    let bytes = config.udp_buffer_mib as usize * MIB;
    for result in [
        socket.set_recv_buffer_size(bytes),
        socket.set_send_buffer_size(bytes),
    ] {
        if let Err(error) = result {
            tracing::warn!(%error, "UDP buffers stay at the system's default");
        }
    }
    if address.is_ipv6() {
        // Dual stack where the system has it.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&address.into()).map_err(failed)?;
    Ok(socket.into())
}

/// Makes control frames overtake bulk: the kernel holds little that is not yet on its way.
pub(crate) fn tune_tcp(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    let keepalive = TcpKeepalive::new().with_time(config.idle_timeout() / 2);
    socket.set_tcp_keepalive(&keepalive)
}

pub(crate) const MIB: usize = 1 << 20;
/// Bytes the kernel may hold unsent: 0.3 s at 7 Mbit/s.
const UNSENT: u32 = 256 << 10;
