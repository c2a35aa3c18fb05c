//! Clients that say exactly what a test wants: bytes over a socket, and frames of HTTP/2 with header
//! fields that are neither indexed nor compressed.
#![allow(dead_code, reason = "each test file uses a part")]

#[path = "hpack.rs"]
mod hpack;

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it is so.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A socket with a bound on every wait.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Sends it, and reads until the other side ends. A server that refuses something may reset what it
/// has not read.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = connect(address);
    socket.write_all(bytes).unwrap();
    rest(&mut socket)
}

/// What comes until the end.
pub fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until the text ends like that.
pub fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(end.as_bytes()) {
        let count = socket.read(&mut byte).unwrap();
        assert!(
            count > 0,
            "it ended after {:?}",
            String::from_utf8_lossy(&all)
        );
        all.push(byte[0]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
    /// What a head says.
    pub fields: Vec<(String, String)>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        [DATA, HEADERS].contains(&self.kind) && self.flags & END_STREAM != 0
    }

    /// The number at some place of the payload.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A number of HPACK's, behind a prefix of 7 bits that is 0.
fn number(to: &mut Vec<u8>, number: usize) {
    if number < 127 {
        to.push(number as u8);
        return;
    }
    to.push(127);
    let mut left = number - 127;
    while left >= 128 {
        to.push((left % 128) as u8 | 128);
        left /= 128;
    }
    to.push(left as u8);
}

pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        number(&mut bytes, name.len());
        bytes.extend_from_slice(name.as_bytes());
        number(&mut bytes, value.len());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

/// The head of a request, without the end of its stream unless `end`.
pub fn head(stream: u32, method: &str, path: &str, more: &[(&str, &str)], end: bool) -> Vec<u8> {
    let mut all = vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
    ];
    all.extend_from_slice(more);
    let end = if end { END_STREAM } else { 0 };
    frame(HEADERS, END_HEADERS | end, stream, &fields(&all))
}

pub const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A message of gRPC.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A whole call.
pub fn call(stream: u32, path: &str, more: &[(&str, &str)], bytes: &[u8]) -> Vec<u8> {
    let more = [&[GRPC, ("te", "trailers")], more].concat();
    let mut all = head(stream, "POST", path, &more, false);
    all.extend(frame(DATA, END_STREAM, stream, &message(bytes)));
    all
}

/// A client of HTTP/2. It acknowledges settings and pings, unless it is told to be dead, and gives
/// windows only when it is told to.
pub struct Client {
    pub socket: TcpStream,
    inflater: hpack::Inflater,
    input: Vec<u8>,
    held: VecDeque<Frame>,
    pub is_dead: bool,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self::with(address, &[])
    }

    /// With settings of its own: numbers and values.
    pub fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut socket = connect(address);
        let mut payload = Vec::new();
        for (number, value) in settings {
            payload.extend(number.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, &payload)).unwrap();
        Self {
            socket,
            inflater: hpack::Inflater::new(),
            input: Vec::new(),
            held: VecDeque::new(),
            is_dead: false,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Opens windows of a stream and the connection.
    pub fn open(&mut self, stream: u32, bytes: u32) {
        for id in [0, stream] {
            self.send(&frame(WINDOW_UPDATE, 0, id, &bytes.to_be_bytes()));
        }
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Option<Frame> {
        if let Some(frame) = self.held.pop_front() {
            return Some(frame);
        }
        loop {
            if self.input.len() >= 9 {
                let length = u32::from_be_bytes([0, self.input[0], self.input[1], self.input[2]]);
                let end = 9 + length as usize;
                if self.input.len() >= end {
                    let bytes: Vec<u8> = self.input.drain(..end).collect();
                    let fields = match bytes[3] {
                        HEADERS => self.inflater.read(&bytes[9..]),
                        _ => Vec::new(),
                    };
                    let found = Frame {
                        fields,
                        kind: bytes[3],
                        flags: bytes[4],
                        stream: u32::from_be_bytes(bytes[5..9].try_into().unwrap()),
                        payload: bytes[9..].to_vec(),
                    };
                    self.acknowledge(&found);
                    return Some(found);
                }
            }
            let mut buffer = [0; 16 << 10];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn acknowledge(&mut self, found: &Frame) {
        let is_asked = [SETTINGS, PING].contains(&found.kind) && found.flags & ACK == 0;
        if is_asked && !self.is_dead {
            let payload = if found.kind == PING {
                &found.payload[..]
            } else {
                &[]
            };
            // A server that is ending need not hear it.
            let _ = self.socket.write_all(&frame(found.kind, ACK, 0, payload));
        }
    }

    /// The next frame that is such a one; others before it are kept.
    pub fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(at) = self.held.iter().position(&wanted) {
            return self.held.remove(at).unwrap();
        }
        let mut passed = std::mem::take(&mut self.held);
        loop {
            let Some(next) = self.next() else {
                panic!("it ended after {passed:?}");
            };
            if wanted(&next) {
                self.held = passed;
                return next;
            }
            passed.push_back(next);
        }
    }

    /// Everything of a stream until its end, or until it is reset.
    pub fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        loop {
            let found = self.find(|frame| frame.stream == stream);
            match found.kind {
                HEADERS => answer.fields.extend(found.fields.clone()),
                DATA => {
                    answer.frames += 1;
                    answer.body.extend_from_slice(&found.payload);
                }
                RST_STREAM => {
                    answer.reset = Some(found.number(0));
                    return answer;
                }
                _ => {}
            }
            if found.ends_stream() {
                return answer;
            }
        }
    }

    /// The code of the GOAWAY behind which the connection ends.
    pub fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = Some(frame.number(4));
            }
        }
        code
    }

    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }
}

/// What came on a stream.
#[derive(Debug, Default)]
pub struct Answer {
    /// Of head and trailers.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How many DATA frames there were.
    pub frames: usize,
    pub reset: Option<u32>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// How a call ended: the code and the message.
    pub fn grpc(&self) -> (&str, &str) {
        (
            self.field("grpc-status").unwrap_or("none"),
            self.field("grpc-message").unwrap_or_default(),
        )
    }

    pub fn status(&self) -> &str {
        self.field(":status").unwrap_or("none")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
