//! The head of a request.

use super::response::Status;

/// The longest head of a request, in bytes.
pub const HEAD_MAX_BYTES: usize = 8 << 10;

/// The most header lines.
const HEADERS_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Only the head of the answer is wanted.
    pub is_head: bool,
    /// The path, without what follows a `?`.
    pub path: String,
}

/// Reads what has come so far; `None` when that is not all of the head.
///
/// # Errors
///
/// What to answer to what is no request, or none that we serve.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Status> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => (),
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_MAX_BYTES => {
            return Err(Status::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::HeadTooLarge),
        Err(_) => return Err(Status::BadRequest),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Status::BadRequest);
    };
    let is_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Status::MethodNotAllowed),
    };
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Request {
        is_head,
        path: path.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let get = |path: &str| {
            Ok(Some(Request {
                is_head: false,
                path: path.to_owned(),
            }))
        };
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(HEAD_MAX_BYTES));
        for (bytes, wanted) in [
            ("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", get("/a")),
            ("GET / HTTP/1.0\r\n\r\n", get("/")),
            ("", Ok(None)),
            ("GET / HTTP/1.1\r\nHost: x\r\n", Ok(None)),
            ("POST / HTTP/1.1\r\n\r\n", Err(Status::MethodNotAllowed)),
            ("GET / HTTP/9\r\n\r\n", Err(Status::BadRequest)),
            ("\u{1}\r\n\r\n", Err(Status::BadRequest)),
            (&many, Err(Status::HeadTooLarge)),
            (&long, Err(Status::HeadTooLarge)),
        ] {
            assert_eq!(parse(bytes.as_bytes()), wanted, "{bytes:?}");
        }
    }
}
