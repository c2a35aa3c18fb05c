//! A client of the front door that is not ours: HTTP/1.1 by hand, signatures from their definition.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// What nodes and clients of the tests share.
pub const SECRET: &str = "a secret of the tests, long enough to be one";

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer: its status, its headers in small letters, and its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// One connection, made anew when it is gone.
pub struct Rest {
    address: String,
    /// What requests are signed with.
    pub secret: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Rest {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            secret: SECRET.to_owned(),
            stream: None,
        }
    }

    /// A request without a signature.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, &[], b"")
    }

    /// A signed request.
    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let body = serde_json::to_vec(body)?;
        let headers = signed(&body, now_ms(), &self.secret);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.send("POST", path, &headers, &body)
    }

    /// Any request; one connection is used for as long as the server keeps it.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let answer = self.try_send(method, path, headers, body);
        let ends = answer
            .as_ref()
            .is_ok_and(|answer| answer.header("connection") == Some("close"));
        if answer.is_err() || ends {
            self.stream = None;
        }
        answer
    }

    /// The first lines of JSON of a stream of them, on a connection of its own.
    pub fn lines(&self, path: &str, count: usize) -> io::Result<Vec<Value>> {
        self.watch(path)?.lines(count)
    }

    /// A stream of lines of JSON, on a connection of its own.
    pub fn watch(&self, path: &str) -> io::Result<Watched> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream)?;
        match status.contains(" 200 ") {
            true => Ok(Watched(stream)),
            false => Err(io::Error::other(status)),
        }
    }

    fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                self.stream.insert(BufReader::new(stream))
            }
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                request.push_str("content-type: application/json\r\n");
            }
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        stream.get_mut().write_all(&bytes)?;
        read(stream)
    }
}

/// A stream of lines that has begun.
pub struct Watched(BufReader<TcpStream>);

impl Watched {
    /// So many lines of JSON, or as many as there are until its end.
    pub fn lines(&mut self, count: usize) -> io::Result<Vec<Value>> {
        let mut found = Vec::new();
        while found.len() < count {
            let line = line(&mut self.0)?;
            // Sizes of chunks and empty lines lie between them; a chunk of nothing is the end.
            if line == "0" {
                break;
            }
            if line.starts_with('{') {
                found.push(serde_json::from_str(&line)?);
            }
        }
        Ok(found)
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let line = line(stream)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = self::line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    let length = answer.header("content-length").map(|text| text.parse());
    let Some(Ok(length)) = length else {
        return Err(io::Error::other("an answer without content-length"));
    };
    answer.body = vec![0; length];
    stream.read_exact(&mut answer.body)?;
    Ok(answer)
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

/// The headers of a signature.
pub fn signed(body: &[u8], time_ms: u64, secret: &str) -> Vec<(&'static str, String)> {
    let time = time_ms.to_string();
    let message = [time.as_bytes(), b":", body].concat();
    vec![
        ("x-signature", hmac(secret.as_bytes(), &message)),
        ("x-timestamp", time),
        ("x-key-id", "1".to_owned()),
    ]
}

/// HMAC-SHA256 as RFC 2104 defines it, in small hexadecimal digits.
fn hmac(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let pad = |byte: u8| block.map(|of_key| of_key ^ byte);
    let inner = Sha256::digest([&pad(0x36), message].concat());
    let outer = Sha256::digest([&pad(0x5c)[..], &inner].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn signatures_are_those_of_the_standard() {
    // RFC 4231, test cases 2 and 6.
    assert_eq!(
        hmac(b"Jefe", b"what do ya want for nothing?"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        hmac(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First"
        ),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
}
