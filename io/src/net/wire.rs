//! A connection's bytes, encrypted or not.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection};

/// How much is encrypted at once: what does not fit into the socket waits in memory twice.
const RECORD_MAX: usize = 64 << 10;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

/// A socket that never waits, and its encryption.
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Wire {
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let tls = match tls {
            None => None,
            Some(config) => {
                let mut connection = ServerConnection::new(config).map_err(broken)?;
                // What waits is bounded by whoever writes.
                connection.set_buffer_limit(None);
                Some(Box::new(connection))
            }
        };
        Ok(Self { socket, tls })
    }

    /// Whether both sides have agreed on keys.
    pub(super) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Whether HTTP/2 was agreed on; `None` if nothing was.
    pub(super) fn speaks_http2(&self) -> Option<bool> {
        let protocol = self.tls.as_ref()?.alpn_protocol()?;
        Some(protocol == b"h2")
    }

    /// The client's certificate.
    pub(super) fn certificate(&self) -> Option<Arc<[u8]>> {
        let certificates = self.tls.as_ref()?.peer_certificates()?;
        certificates.first().map(|first| first.as_ref().into())
    }

    /// Whether something of ours waits to be sent.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    pub(super) fn read(&mut self, to: &mut [u8]) -> io::Result<Got> {
        let Some(tls) = &mut self.tls else {
            return got(self.socket.read(to));
        };
        loop {
            match tls.reader().read(to) {
                Ok(0) => return Ok(Got::End),
                Ok(count) => return Ok(Got::Bytes(count)),
                Err(error) if is_later(&error) => {}
                // The other side is gone without saying so.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Got::End),
                Err(error) => return Err(error),
            }
            match tls.read_tls(&mut self.socket) {
                Ok(0) => return Ok(Got::End),
                Ok(_) => {}
                Err(error) if is_later(&error) => return Ok(Got::Nothing),
                Err(error) => return Err(error),
            }
            if let Err(error) = tls.process_new_packets() {
                // Tells the other side why, as far as that goes.
                let _ = tls.write_tls(&mut self.socket);
                return Err(broken(error));
            }
        }
    }

    /// Writes as much as the other side takes now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return match got(self.socket.write(bytes))? {
                Got::Bytes(count) => Ok(count),
                Got::Nothing => Ok(0),
                Got::End => Err(io::ErrorKind::WriteZero.into()),
            };
        };
        let mut taken = 0;
        loop {
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if is_later(&error) => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
            if taken == bytes.len() || tls.is_handshaking() {
                return Ok(taken);
            }
            let more = (bytes.len() - taken).min(RECORD_MAX);
            taken += tls.writer().write(&bytes[taken..taken + more])?;
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // What does not go at once is lost, and only ends the connection less politely.
            let _ = tls.write_tls(&mut self.socket);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn got(result: io::Result<usize>) -> io::Result<Got> {
    match result {
        Ok(0) => Ok(Got::End),
        Ok(count) => Ok(Got::Bytes(count)),
        Err(error) if is_later(&error) => Ok(Got::Nothing),
        Err(error) => Err(error),
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
