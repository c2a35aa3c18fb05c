//! A client of gRPC that does as little as it can: HTTP/2 frames by hand; header fields that do not
//! change are indexed after the first call, as every client of gRPC does; answers are known by their
//! messages.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the server may send before it hears of it; given anew when half is used.
const ROOM: u32 = 1 << 30;

/// A call: its path, its metadata, its message.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub path: &'static str,
    pub metadata: Vec<(&'static str, String)>,
    pub message: Vec<u8>,
}

/// An answer: the number of the call, and its message; `None` if there is none.
pub type Answer = (u64, Option<Vec<u8>>);

/// One connection, which never blocks.
pub struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    next: u32,
    /// How many bytes of bodies the server takes now.
    window: i64,
    unread: u32,
    calls: HashMap<u32, (u64, Vec<u8>)>,
    /// Fields that the server has in its table, the oldest first.
    indexed: Vec<(&'static str, String)>,
}

/// The fields of which each value comes once.
const CHANGING: [&str; 2] = ["x-signature", "x-timestamp"];
/// The first index behind HPACK's own table.
const DYNAMIC: usize = 62;

impl Connection {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut own = Self {
            stream,
            out: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            sent: 0,
            input: Vec::new(),
            next: 1,
            window: 65_535,
            unread: 0,
            calls: HashMap::new(),
            indexed: Vec::new(),
        };
        own.frame(SETTINGS, 0, 0, &[]);
        own.frame(WINDOW_UPDATE, 0, 0, &ROOM.to_be_bytes());
        own
    }

    /// What to poll.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// How many calls are under way.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether something waits to be sent.
    pub fn wants_write(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Whether the server takes a message of this length now.
    pub fn has_room(&self, message: usize) -> bool {
        self.window >= message as i64 + 5
    }

    /// Begins a call.
    pub fn call(&mut self, number: u64, request: &Request) {
        let id = self.next;
        self.next += 2;
        // POST, http.
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (":path", request.path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            self.field(&mut block, name, value);
        }
        for (name, value) in &request.metadata {
            self.field(&mut block, name, value);
        }
        self.frame(HEADERS, END_HEADERS, id, &block);
        let mut body = vec![0];
        body.extend_from_slice(&(request.message.len() as u32).to_be_bytes());
        body.extend_from_slice(&request.message);
        self.window -= body.len() as i64;
        self.frame(DATA, END_STREAM, id, &body);
        self.calls.insert(id, (number, Vec::new()));
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("cannot send: {error}"),
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    /// Takes what came, by a buffer, and tells of each answer.
    pub fn receive(&mut self, buffer: &mut [u8], mut tell: impl FnMut(Answer)) {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("cannot read: {error}"),
            }
        }
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(head) = input.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(payload) = input.get(at + 9..at + 9 + length) else {
                break;
            };
            at += 9 + length;
            self.take(kind, flags, id, payload, &mut tell);
        }
        self.input = input;
        self.input.drain(..at);
    }

    fn take(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        tell: &mut impl FnMut(Answer),
    ) {
        match kind {
            DATA => {
                self.unread += payload.len() as u32;
                if self.unread > ROOM / 2 {
                    let more = self.unread.to_be_bytes();
                    self.frame(WINDOW_UPDATE, 0, 0, &more);
                    self.unread = 0;
                }
                if let Some((_, body)) = self.calls.get_mut(&id) {
                    body.extend_from_slice(payload);
                }
            }
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
            WINDOW_UPDATE if id == 0 => {
                let more = u32::from_be_bytes(payload.try_into().unwrap());
                self.window += i64::from(more);
            }
            GOAWAY => panic!("the server goes away: {payload:?}"),
            _ => {}
        }
        let ends = kind == RST_STREAM || [DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0;
        if ends && let Some((number, body)) = self.calls.remove(&id) {
            let message = body.get(5..).map(<[u8]>::to_vec);
            tell((number, message.filter(|_| kind != RST_STREAM)));
        }
    }

    /// A field, by its index if the server has it.
    fn field(&mut self, block: &mut Vec<u8>, name: &'static str, value: &str) {
        let known = self
            .indexed
            .iter()
            .position(|(other, held)| *other == name && held == value);
        match known {
            Some(at) => block.push(0x80 | (DYNAMIC + self.indexed.len() - 1 - at) as u8),
            None if CHANGING.contains(&name) => {
                block.push(0x10);
                text(block, name);
                text(block, value);
            }
            None => {
                block.push(0x40);
                text(block, name);
                text(block, value);
                self.indexed.push((name, value.to_owned()));
                assert!(DYNAMIC + self.indexed.len() < 127, "an index of one byte");
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        self.out.extend_from_slice(&length[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&id.to_be_bytes());
        self.out.extend_from_slice(payload);
    }
}

/// A text of less than 127 bytes, as it is.
fn text(to: &mut Vec<u8>, value: &str) {
    assert!(value.len() < 127);
    to.push(value.len() as u8);
    to.extend_from_slice(value.as_bytes());
}
