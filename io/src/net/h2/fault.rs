//! What nghttp2 says when it cannot go on.
#![allow(unsafe_code, reason = "nghttp2 is a C library")]

use std::ffi::c_int;

use libnghttp2_sys as ng;

/// Why a connection cannot go on; what nghttp2 has to say about it is still to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2: {0}")]
pub(in crate::net) struct Fault(pub(in crate::net) String);

pub(super) fn fault(code: c_int) -> Fault {
    // SAFETY: it returns a static text for any number.
    let text = unsafe { std::ffi::CStr::from_ptr(ng::nghttp2_strerror(code)) };
    Fault(text.to_string_lossy().into_owned())
}

pub(super) fn check(code: c_int) -> Result<(), Fault> {
    if code == 0 { Ok(()) } else { Err(fault(code)) }
}
