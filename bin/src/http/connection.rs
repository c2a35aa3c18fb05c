//! One connection: a request, its answer, the end.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::{
    request::{HEAD_MAX_BYTES, Request, parse},
    response::{Response, Status},
};

/// The most that is read of what follows a head, in bytes.
const REST_MAX_BYTES: usize = 64 << 10;

/// Reads a request, writes what `answer` has for it, and closes. Takes at most `limit` to read,
/// as much to write, and as much to wait for the other side to close.
///
/// # Errors
///
/// When the other side is gone, or too slow to take the answer.
pub fn serve(
    stream: &TcpStream,
    limit: Duration,
    answer: impl FnOnce(&Request) -> Response,
) -> io::Result<()> {
    let (bytes, is_read_to_its_end) = match read_request(stream, Instant::now() + limit)? {
        Ok(request) => (answer(&request).to_bytes(request.is_head), true),
        Err(status) => (Response::plain(status).to_bytes(false), false),
    };
    write_all(stream, &bytes, Instant::now() + limit)?;
    stream.shutdown(Shutdown::Write)?;
    if !is_read_to_its_end {
        // A socket that is closed with something unread resets the connection, and the answer may
        // be lost with it.
        drain(stream, Instant::now() + limit)?;
    }
    stream.shutdown(Shutdown::Both)
}

/// A request, or what to answer instead.
fn read_request(mut stream: &TcpStream, deadline: Instant) -> io::Result<Result<Request, Status>> {
    let mut bytes = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    loop {
        let Some(left) = left(deadline) else {
            return Ok(Err(Status::Timeout));
        };
        stream.set_read_timeout(Some(left))?;
        let room = chunk.len().min(HEAD_MAX_BYTES - bytes.len());
        match stream.read(&mut chunk[..room]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            // The deadline is looked at again.
            Err(error) if is_again(&error) => continue,
            Err(error) => return Err(error),
        }
        match parse(&bytes) {
            Ok(None) => (),
            Ok(Some(request)) => return Ok(Ok(request)),
            Err(status) => return Ok(Err(status)),
        }
    }
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = left(deadline).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_again(&error) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads and forgets until the other side closes.
fn drain(mut stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let mut chunk = [0; 4096];
    let mut total = 0;
    while total < REST_MAX_BYTES {
        let Some(left) = left(deadline) else { break };
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => total += count,
            Err(error) if is_again(&error) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How long until `deadline`; `None` when it is over. At least 1 ms: a timeout may not be 0.
fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.max(Duration::from_millis(1)))
}

fn is_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
