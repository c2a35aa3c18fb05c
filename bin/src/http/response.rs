//! Answers.

use crate::exporter::CONTENT_TYPE;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Here it is.
    Ok,
    /// This is no request.
    BadRequest,
    /// There is no such thing.
    NotFound,
    /// There is, and only to read.
    MethodNotAllowed,
    /// It did not come in time.
    Timeout,
    /// It is longer than any request needs to be.
    HeadTooLarge,
    /// Not now.
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

/// An answer.
pub struct Response {
    status: Status,
    content_type: &'static str,
    body: String,
}

impl Response {
    /// `status` in words.
    pub fn plain(status: Status) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{}\n", status.line()),
        }
    }

    /// Figures.
    pub fn metrics(body: String) -> Self {
        Self {
            status: Status::Ok,
            content_type: CONTENT_TYPE,
            body,
        }
    }

    /// A document of JSON.
    pub fn json(status: Status, body: String) -> Self {
        Self {
            status,
            content_type: "application/json",
            body,
        }
    }

    /// What goes over the wire; without the body for `HEAD`.
    pub fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let allow = match self.status {
            Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let body = if is_head { "" } else { &self.body };
        let text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            self.status.line(),
            self.content_type,
            self.body.len()
        );
        text.into_bytes()
    }
}
