//! A TCP proxy on loopback that can cut, swallow and hold what goes through it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What happens to the next client bytes that hold a marker.
#[derive(Clone, Debug)]
pub enum Trick {
    /// The bytes never arrive, and the connection is cut.
    Before(&'static str),
    /// The bytes arrive, the answer does not: the connection is cut on the client's side.
    After(&'static str),
    /// The connection is cut when so many bytes have gone by behind the marker.
    Within(&'static str, usize),
}

#[derive(Default)]
struct Shared {
    tricks: Mutex<Vec<Trick>>,
    played: AtomicU64,
    held: AtomicBool,
    refused: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if own.refused.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let mut streams = own.streams.lock().unwrap();
                streams.push(client.try_clone().unwrap());
                streams.push(server.try_clone().unwrap());
                drop(streams);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let shared = Arc::clone(&own);
                std::thread::spawn(move || pump(from, to, Some(&shared), &shared));
                let shared = Arc::clone(&own);
                std::thread::spawn(move || pump(server, client, None, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Plays this trick once, at the next bytes it is about.
    pub fn play(&self, trick: Trick) {
        self.shared.tricks.lock().unwrap().push(trick);
    }

    /// How many tricks were played.
    pub fn played(&self) -> u64 {
        self.shared.played.load(Ordering::Acquire)
    }

    /// Holds everything back, as a black hole does, or lets it go on.
    pub fn hold(&self, held: bool) {
        self.shared.held.store(held, Ordering::Release);
    }

    /// Takes no new connections, or takes them again.
    pub fn refuse(&self, refused: bool) {
        self.shared.refused.store(refused, Ordering::Release);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn find(bytes: &[u8], marker: &str) -> bool {
    bytes
        .windows(marker.len())
        .any(|window| window == marker.as_bytes())
}

fn pump(mut from: TcpStream, mut to: TcpStream, tricks: Option<&Arc<Shared>>, shared: &Shared) {
    let mut buffer = vec![0; 16 << 10];
    let mut left: Option<usize> = None;
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        while shared.held.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let bytes = &buffer[..count];
        if let Some(shared) = tricks {
            let mut waiting = shared.tricks.lock().unwrap();
            let hit = waiting.iter().position(|trick| {
                let (Trick::Before(marker) | Trick::After(marker) | Trick::Within(marker, _)) =
                    trick;
                find(bytes, marker)
            });
            let hit = hit.map(|index| waiting.remove(index));
            drop(waiting);
            if hit.is_some() {
                shared.played.fetch_add(1, Ordering::AcqRel);
            }
            match hit {
                Some(Trick::Before(_)) => break,
                Some(Trick::After(_)) => {
                    // The client hears nothing more, and the server reads to the end.
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.write_all(bytes);
                    std::thread::sleep(Duration::from_millis(200));
                    break;
                }
                Some(Trick::Within(_, bytes)) => left = Some(bytes),
                None => {}
            }
            if let Some(left) = &mut left {
                if *left < count {
                    let _ = to.write_all(&bytes[..*left]);
                    break;
                }
                *left -= count;
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
