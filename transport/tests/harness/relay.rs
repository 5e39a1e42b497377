//! A UDP relay with delay, loss and a bottleneck: what `netem` would do.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// What happens to packets, in each direction alike.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Time one way.
    pub(crate) delay: Duration,
    /// Packets lost, of 10,000.
    pub(crate) loss: u64,
    /// Packets at the beginning that are not lost.
    pub(crate) spared: u64,
    /// Bottleneck, in bytes a second; 0 is none.
    pub(crate) bytes_per_second: u64,
}

/// Packets pass from whoever sends to its address, to the server, and back.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    stop: Arc<AtomicBool>,
    move_clients: Arc<AtomicBool>,
}

impl Relay {
    pub(crate) fn start(server: SocketAddr, weather: Weather) -> Self {
        let inner = socket();
        let relay = Self {
            address: inner.local_addr().unwrap(),
            server: Arc::new(Mutex::new(server)),
            stop: Arc::default(),
            move_clients: Arc::default(),
        };
        let server = Arc::clone(&relay.server);
        let stop = Arc::clone(&relay.stop);
        let move_clients = Arc::clone(&relay.move_clients);
        let upward = line(weather, 1);
        let downward = line(weather, 2);
        thread::spawn(move || {
            // One socket towards the server for each client, as a NAT has.
            let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, client)) = inner.recv_from(&mut buffer) else {
                    continue;
                };
                if move_clients.swap(false, Ordering::Relaxed) {
                    clients.clear();
                }
                let outer = clients.entry(client).or_insert_with(|| {
                    let outer = Arc::new(socket());
                    let (back, inner) = (Arc::clone(&outer), inner.try_clone().unwrap());
                    let (stop, downward) = (Arc::clone(&stop), downward.clone());
                    thread::spawn(move || {
                        let mut buffer = vec![0; 65_536];
                        let inner = Arc::new(inner);
                        while !stop.load(Ordering::Relaxed) {
                            let Ok((len, _)) = back.recv_from(&mut buffer) else {
                                continue;
                            };
                            downward.send(Arc::clone(&inner), client, &buffer[..len]);
                        }
                    });
                    outer
                });
                let server = *server.lock().unwrap();
                upward.send(Arc::clone(outer), server, &buffer[..len]);
            }
        });
        relay
    }

    /// From now on, packets go to another server, which knows nothing of the first one's connections.
    pub(crate) fn redirect(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    /// From now on, clients appear at the server under new addresses.
    pub(crate) fn move_clients(&self) {
        self.move_clients.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Packet {
    due: Instant,
    from: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// One direction: decides on entry, sends when due.
#[derive(Clone)]
struct Line {
    weather: Weather,
    state: Arc<Mutex<State>>,
    queue: mpsc::Sender<Packet>,
}

struct State {
    random: u64,
    /// When the bottleneck has sent what it holds.
    free_at: Instant,
    /// Packets that came so far.
    packets: u64,
}

fn line(weather: Weather, seed: u64) -> Line {
    let (queue, packets) = mpsc::channel::<Packet>();
    thread::spawn(move || {
        for packet in packets {
            if let Some(wait) = packet.due.checked_duration_since(Instant::now()) {
                thread::sleep(wait);
            }
            let _ = packet.from.send_to(&packet.bytes, packet.to);
        }
    });
    Line {
        weather,
        state: Arc::new(Mutex::new(State {
            random: seed,
            free_at: Instant::now(),
            packets: 0,
        })),
        queue,
    }
}

impl Line {
    fn send(&self, from: Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.packets += 1;
        state.random = state
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let is_unlucky = (state.random >> 33) % 10_000 < self.weather.loss;
        if is_unlucky && state.packets > self.weather.spared {
            return;
        }
        let now = Instant::now();
        let mut leaves = now;
        if self.weather.bytes_per_second > 0 {
            leaves = now.max(state.free_at);
            // A queue of a quarter second, then packets are dropped.
            if leaves - now > QUEUE {
                return;
            }
            let seconds = bytes.len() as f64 / self.weather.bytes_per_second as f64;
            leaves += Duration::from_secs_f64(seconds);
            state.free_at = leaves;
        }
        let due = leaves + self.weather.delay;
        let _ = self.queue.send(Packet {
            due,
            from,
            to,
            bytes: bytes.to_vec(),
        });
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
    let _ = SockRef::from(&socket).set_send_buffer_size(4 << 20);
    socket
}

const QUEUE: Duration = Duration::from_millis(250);
