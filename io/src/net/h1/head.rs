//! Heads of requests and answers.

use std::io::Write;

use crate::net::{
    limits::Limits,
    reply::Response,
    request::{Headers, split_target},
};

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has so many bytes.
    Length(usize),
    /// It comes in chunks.
    Chunked,
}

/// What a request says before its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: Headers,
    pub(super) framing: Framing,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
    /// HTTP/1.0.
    pub(super) is_old: bool,
}

/// A status, and why.
pub(super) type Refusal = (u16, &'static str);

/// Reads a head; `None` when it is not all there. With it comes its length.
pub(super) fn parse(input: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refusal> {
    let mut fields = vec![httparse::EMPTY_HEADER; limits.headers_max];
    let mut request = httparse::Request::new(&mut fields);
    // No further than that, so that it does not matter how much comes at once.
    let start = &input[..input.len().min(limits.header_max_bytes)];
    let length = match request.parse(start) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() <= limits.header_max_bytes => {
            return Ok(None);
        }
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err((431, "the header fields are too large"));
        }
        Err(httparse::Error::Version) => return Err((505, "not HTTP/1.0 or 1.1")),
        Err(_) => return Err((400, "no well-formed request")),
    };
    let raw = &input[..length];
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err((400, "no well-formed request"));
    };
    check_lines(raw)?;
    let (authority, target) = split_authority(target);
    let is_path = target.starts_with('/') || authority.is_some();
    if !(is_path || target == "*" && method == "OPTIONS") {
        return Err((400, "the target is no path"));
    }
    let mut headers = Headers::default();
    for field in request.headers.iter() {
        let name = field.name.to_ascii_lowercase();
        // A target with an authority says who is meant, whatever Host says.
        let host = authority.filter(|_| name == "host");
        headers.push(&name, host.map_or(field.value, str::as_bytes));
    }
    let is_old = version == 0;
    if !is_old && headers.all("host").count() != 1 {
        return Err((400, "there must be one Host field"));
    }
    let framing = framing(&headers, is_old)?;
    let names = |field: &'static str, word: &str| {
        headers.all(field).any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    let keeps_alive = match is_old {
        true => names("connection", "keep-alive"),
        false => !names("connection", "close"),
    };
    let expects_continue = match headers.get("expect") {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => !is_old,
        Some(_) => return Err((417, "nothing but 100-continue can be expected")),
    };
    let (path, query) = split_target(target.to_owned());
    let head = Head {
        method: method.to_owned(),
        path: if path.is_empty() {
            "/".to_owned()
        } else {
            path
        },
        query,
        headers,
        framing,
        keeps_alive,
        expects_continue,
        is_old,
    };
    Ok(Some((head, length)))
}

/// The authority of a target in absolute form, which proxies are sent and servers must know, and what
/// follows it; else the target as it is.
fn split_authority(target: &str) -> (Option<&str>, &str) {
    const SCHEMES: [&str; 2] = ["http://", "https://"];
    let scheme = SCHEMES.into_iter().find(|scheme| {
        let start = target.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let Some(scheme) = scheme else {
        return (None, target);
    };
    let rest = &target[scheme.len()..];
    match rest.find(['/', '?']).unwrap_or(rest.len()) {
        0 => (None, target),
        // Nothing behind the authority means the root, as `?` without a path does.
        end if end == rest.len() => (Some(rest), "/"),
        end => (Some(&rest[..end]), &rest[end..]),
    }
}

/// Every line ends with CR LF and none is a continuation: two readers could differ about those.
fn check_lines(head: &[u8]) -> Result<(), Refusal> {
    let mut before = b'\n';
    let mut at_line_start = false;
    for (index, &byte) in head.iter().enumerate() {
        if byte == b'\n' && before != b'\r' {
            return Err((400, "a line does not end with CR LF"));
        }
        if before == b'\r' && byte != b'\n' {
            return Err((400, "a CR stands alone"));
        }
        if at_line_start && index > 0 && (byte == b' ' || byte == b'\t') {
            return Err((400, "a field is continued on another line"));
        }
        at_line_start = byte == b'\n';
        before = byte;
    }
    Ok(())
}

fn framing(headers: &Headers, is_old: bool) -> Result<Framing, Refusal> {
    let mut codings = headers.all("transfer-encoding");
    let mut lengths = headers.all("content-length");
    match (codings.next(), lengths.next()) {
        (Some(_), Some(_)) => Err((400, "both Transfer-Encoding and Content-Length are given")),
        (Some(_), None) if is_old => Err((400, "HTTP/1.0 has no Transfer-Encoding")),
        (Some(coding), None) => {
            if codings.next().is_some() {
                return Err((400, "there are several Transfer-Encoding fields"));
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked)
            } else {
                Err((501, "no Transfer-Encoding but chunked is known"))
            }
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err((400, "there are several Content-Length fields"));
            }
            // Digits only: no sign, no list, no blanks within.
            let text = std::str::from_utf8(length).unwrap_or_default();
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let length = is_number.then(|| text.parse().unwrap_or(usize::MAX));
            length
                .map(Framing::Length)
                .ok_or((400, "Content-Length is no number"))
        }
        (None, None) => Ok(Framing::Length(0)),
    }
}

/// How the end of an answer's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// By its length.
    Known,
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    Unknown,
}

/// Writes an answer; only its head if `is_head`.
pub(super) fn write(
    to: &mut Vec<u8>,
    response: &Response,
    is_head: bool,
    keeps: bool,
    length: Length,
) {
    let status = response.status;
    // Writing to memory does not fail.
    let _ = write!(to, "HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in &response.headers {
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b": ");
        // Whatever a service says, it says nothing about the next line.
        to.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
        to.extend_from_slice(b"\r\n");
    }
    let has_body = status >= 200 && status != 204 && status != 304;
    let _ = match length {
        Length::Known if has_body => {
            write!(to, "content-length: {}\r\n", response.body.len())
        }
        Length::Chunked => write!(to, "transfer-encoding: chunked\r\n"),
        Length::Known | Length::Unknown => Ok(()),
    };
    if !keeps {
        to.extend_from_slice(b"connection: close\r\n");
    }
    to.extend_from_slice(b"\r\n");
    if !is_head && has_body {
        to.extend_from_slice(&response.body);
    }
}

/// Writes a piece of a body.
pub(super) fn piece(to: &mut Vec<u8>, piece: &[u8], is_old: bool) {
    if is_old {
        to.extend_from_slice(piece);
        return;
    }
    let _ = write!(to, "{:x}\r\n", piece.len());
    to.extend_from_slice(piece);
    to.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(input: &str) -> Result<Option<(Framing, bool)>, u16> {
        let limits = Limits {
            header_max_bytes: 200,
            headers_max: 5,
            ..Limits::default()
        };
        match parse(input.as_bytes(), &limits) {
            Ok(None) => Ok(None),
            Ok(Some((head, length))) => {
                assert_eq!(length, input.len(), "{input:?}");
                Ok(Some((head.framing, head.keeps_alive)))
            }
            Err((status, _)) => Err(status),
        }
    }

    #[test]
    fn heads_and_what_could_be_understood_in_two_ways() {
        use Framing::{Chunked, Length};
        let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let get = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
        for (input, wanted) in [
            (get("Host: x\r\n"), Ok(Some((Length(0), true)))),
            ("GET / HTTP/1.1\r\nHost: x\r\n".into(), Ok(None)),
            (String::new(), Ok(None)),
            (
                get("host: x\r\nConnection: a, Close\r\n"),
                Ok(Some((Length(0), false))),
            ),
            (
                "GET / HTTP/1.0\r\n\r\n".into(),
                Ok(Some((Length(0), false))),
            ),
            (
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(),
                Ok(Some((Length(0), true))),
            ),
            (post("Content-Length: 12\r\n"), Ok(Some((Length(12), true)))),
            (
                post("Transfer-Encoding: Chunked\r\n"),
                Ok(Some((Chunked, true))),
            ),
            (get(""), Err(400)),
            (get("Host: x\r\nHost: y\r\n"), Err(400)),
            (
                post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
                Err(400),
            ),
            (post("Content-Length: 3\r\nContent-Length: 3\r\n"), Err(400)),
            (post("Content-Length: 3, 3\r\n"), Err(400)),
            (post("Content-Length: +3\r\n"), Err(400)),
            (post("Content-Length: -3\r\n"), Err(400)),
            (post("Content-Length: 0x3\r\n"), Err(400)),
            (post("Content-Length:\r\n"), Err(400)),
            (post("Transfer-Encoding: gzip, chunked\r\n"), Err(501)),
            (post("Transfer-Encoding: identity\r\n"), Err(501)),
            (
                post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
                Err(400),
            ),
            (post("Transfer-Encoding : chunked\r\n"), Err(400)),
            (post("Transfer-Encoding:\r\n chunked\r\n"), Err(400)),
            (post("a: b\r\n c\r\n"), Err(400)),
            (post("a: b\nc: d\r\n"), Err(400)),
            (post("Expect: 200-ok\r\n"), Err(417)),
            ("GET / HTTP/1.1\nHost: x\n\n".into(), Err(400)),
            ("GET x HTTP/1.1\r\nHost: x\r\n\r\n".into(), Err(400)),
            ("GET ?a HTTP/1.1\r\nHost: x\r\n\r\n".into(), Err(400)),
            ("GET http:/// HTTP/1.1\r\nHost: x\r\n\r\n".into(), Err(400)),
            ("GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), Err(400)),
            ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".into(), Err(400)),
            ("GET http://x/ HTTP/1.1\r\n\r\n".into(), Err(400)),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".into(), Err(505)),
            ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Err(400)),
            (post(&"a: b\r\n".repeat(6)), Err(431)),
            (post(&format!("a: {}\r\n", "b".repeat(300))), Err(431)),
            (format!("GET /{}", "a".repeat(300)), Err(431)),
        ] {
            assert_eq!(judge(&input), wanted, "{input:?}");
        }
    }

    #[test]
    fn a_target_may_name_the_authority() {
        for (target, host, path, query) in [
            ("/a?b", "x", "/a", Some("b")),
            ("http://y:1/a?b=c", "y:1", "/a", Some("b=c")),
            ("HTTPS://y/", "y", "/", None),
            ("http://y", "y", "/", None),
            ("http://y?b", "y", "/", Some("b")),
        ] {
            let input = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let (head, _) = parse(input.as_bytes(), &Limits::default())
                .unwrap()
                .unwrap();
            assert_eq!(head.headers.text("host"), Some(host), "{target}");
            assert_eq!(head.path, path, "{target}");
            assert_eq!(head.query.as_deref(), query, "{target}");
        }
    }

    #[test]
    fn an_answer_cannot_be_split() {
        let mut bytes = Vec::new();
        let response = Response::text(200, "x").with("a", "b\r\nset-cookie: c");
        write(&mut bytes, &response, false, true, Length::Known);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\na: bset-cookie: c\r\n"), "{text}");
    }
}
