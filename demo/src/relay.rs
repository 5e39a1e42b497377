//! A hop between a hospital and the coordinator that counts the bytes of every datagram: what
//! crossed the wire, beside what the hospital's own log says.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;

/// Passes datagrams on and counts them, until it is dropped.
pub(crate) struct Relay {
    front: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    out: AtomicU64,
    stop: AtomicBool,
    /// Where the hospital last sent from; a hospital that starts again sends from elsewhere.
    hospital: Mutex<Option<SocketAddr>>,
}

impl Relay {
    /// A relay to `coordinator` on a free port.
    pub(crate) fn start(coordinator: SocketAddr) -> anyhow::Result<Self> {
        let bind = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            // Its threads look up now and then whether they are still wanted.
            socket.set_read_timeout(Some(LOOK_UP))?;
            Ok(socket)
        };
        let (front, back) = (bind().context("no socket")?, bind().context("no socket")?);
        back.connect(coordinator)?;
        let shared = Arc::new(Shared::default());
        let address = front.local_addr()?;
        let (inner, outer) = (front.try_clone()?, back.try_clone()?);
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            pass(&state, &front, |bytes, from| {
                *state
                    .hospital
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(from);
                state.out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                // A coordinator that is down loses datagrams, as any network may.
                drop(back.send(bytes));
            });
        });
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            pass(&state, &outer, |bytes, _| {
                let hospital = *state
                    .hospital
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(hospital) = hospital {
                    drop(inner.send_to(bytes, hospital));
                }
            });
        });
        Ok(Self {
            front: address,
            shared,
        })
    }

    /// Where the hospital connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.front
    }

    /// Bytes of all datagrams from the hospital, without UDP's and IP's headers.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.shared.out.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn pass(shared: &Shared, socket: &UdpSocket, mut on: impl FnMut(&[u8], SocketAddr)) {
    let mut bytes = vec![0; 1 << 16];
    while !shared.stop.load(Ordering::Relaxed) {
        // A timeout, or a coordinator that is not there (yet): look again.
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            on(&bytes[..length], from);
        }
    }
}

const LOOK_UP: Duration = Duration::from_millis(100);
