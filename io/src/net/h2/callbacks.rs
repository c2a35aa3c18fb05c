//! What nghttp2 calls while it reads or writes frames.
#![allow(unsafe_code, reason = "nghttp2 is a C library")]

use std::ffi::{c_int, c_void};

use libnghttp2_sys as ng;

use super::state::{State, Stream};

/// Has nghttp2 call everything here.
///
/// # Safety
///
/// `callbacks` must be alive; a session made with them must get a pointer to a [`State`].
pub(super) unsafe fn install(callbacks: *mut ng::nghttp2_session_callbacks) {
    // SAFETY: as above, and the functions have the types that are asked for.
    unsafe {
        ng::nghttp2_session_callbacks_set_on_begin_headers_callback(
            callbacks,
            Some(on_begin_headers),
        );
        ng::nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, Some(on_begin));
        ng::nghttp2_session_callbacks_set_on_header_callback(callbacks, Some(on_header));
        ng::nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Some(on_data));
        ng::nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Some(on_frame));
        ng::nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Some(on_sent));
        ng::nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Some(on_close));
    }
}

/// The state behind a callback's pointer.
///
/// # Safety
///
/// `user` must be what the session was made with, and nothing else may refer to the state.
unsafe fn state<'a>(user: *mut c_void) -> &'a mut State {
    // SAFETY: as above.
    unsafe { &mut *user.cast::<State>() }
}

pub(super) fn field(name: &str, value: &str) -> ng::nghttp2_nv {
    ng::nghttp2_nv {
        name: name.as_ptr().cast_mut(),
        value: value.as_ptr().cast_mut(),
        namelen: name.len(),
        valuelen: value.len(),
        flags: ng::NGHTTP2_NV_FLAG_NONE as u8,
    }
}

unsafe extern "C" fn on_begin(
    session: *mut ng::nghttp2_session,
    hd: *const ng::nghttp2_frame_hd,
    _user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with a frame's head that is alive; it allows this in a callback.
    unsafe {
        // nghttp2 passes over priorities, which nobody uses any more, and over this fault, too.
        if u32::from((*hd).type_) == ng::NGHTTP2_PRIORITY && (*hd).stream_id == 0 {
            ng::nghttp2_session_terminate_session(session, ng::NGHTTP2_PROTOCOL_ERROR);
        }
    }
    0
}

unsafe extern "C" fn on_begin_headers(
    _session: *mut ng::nghttp2_session,
    frame: *const ng::nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with a frame that is alive, of a type that has headers.
    let (state, hd, is_request) = unsafe {
        let is_request = (*frame).headers.cat == ng::NGHTTP2_HCAT_REQUEST;
        (state(user), (*frame).hd, is_request)
    };
    if u32::from(hd.type_) == ng::NGHTTP2_HEADERS && is_request {
        state.streams.insert(hd.stream_id, Stream::new(state.now));
    }
    0
}

unsafe extern "C" fn on_header(
    _session: *mut ng::nghttp2_session,
    frame: *const ng::nghttp2_frame,
    name: *const u8,
    name_length: usize,
    value: *const u8,
    value_length: usize,
    _flags: u8,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with a frame, a name and a value that are alive.
    let (state, hd, is_request, name, value) = unsafe {
        (
            state(user),
            (*frame).hd,
            (*frame).headers.cat == ng::NGHTTP2_HCAT_REQUEST,
            std::slice::from_raw_parts(name, name_length),
            std::slice::from_raw_parts(value, value_length),
        )
    };
    // Trailers of requests say nothing that anybody needs.
    if is_request {
        state.take(hd.stream_id, |incoming, limits| {
            incoming.field(name, value, limits);
        });
    }
    0
}

unsafe extern "C" fn on_data(
    _session: *mut ng::nghttp2_session,
    _flags: u8,
    id: i32,
    data: *const u8,
    length: usize,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with data that is alive.
    let (state, data) = unsafe { (state(user), std::slice::from_raw_parts(data, length)) };
    let listens = match state.streams.get(&id) {
        None => return 0,
        Some(stream) => stream.listener.is_some(),
    };
    if listens
        || !state
            .streams
            .get(&id)
            .is_some_and(|stream| stream.is_handed_over)
    {
        state.take(id, |incoming, limits| incoming.data(data, limits));
    }
    if listens {
        state.ready.push_back(id);
    }
    0
}

unsafe extern "C" fn on_frame(
    session: *mut ng::nghttp2_session,
    frame: *const ng::nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with a frame that is alive.
    let (state, hd) = unsafe { (state(user), (*frame).hd) };
    let kind = u32::from(hd.type_);
    let ends = hd.flags & ng::NGHTTP2_FLAG_END_STREAM as u8 != 0;
    if kind == ng::NGHTTP2_PING && hd.flags & ng::NGHTTP2_FLAG_ACK as u8 != 0 {
        state.pongs += 1;
    }
    if kind == ng::NGHTTP2_RST_STREAM && !state.resets.take(state.now) {
        // SAFETY: nghttp2 allows this in a callback.
        unsafe { ng::nghttp2_session_terminate_session(session, ng::NGHTTP2_ENHANCE_YOUR_CALM) };
    }
    let is_head = kind == ng::NGHTTP2_HEADERS;
    if (is_head || kind == ng::NGHTTP2_DATA && ends)
        && let Some(stream) = state.streams.get_mut(&hd.stream_id)
    {
        stream.incoming.has_head |= is_head;
        stream.has_ended |= ends;
        state.ready.push_back(hd.stream_id);
    }
    0
}

unsafe extern "C" fn on_sent(
    session: *mut ng::nghttp2_session,
    frame: *const ng::nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with a frame that is alive.
    let (state, hd) = unsafe { (state(user), (*frame).hd) };
    let kind = u32::from(hd.type_);
    let has_end = [ng::NGHTTP2_DATA, ng::NGHTTP2_HEADERS].contains(&kind);
    if has_end
        && hd.flags & ng::NGHTTP2_FLAG_END_STREAM as u8 != 0
        && state.streams.contains_key(&hd.stream_id)
    {
        // Answered before all of the request came: the client may stop sending it.
        // SAFETY: nghttp2 allows both in a callback.
        unsafe {
            if ng::nghttp2_session_get_stream_remote_close(session, hd.stream_id) == 0 {
                let code = ng::NGHTTP2_NO_ERROR;
                ng::nghttp2_submit_rst_stream(session, 0, hd.stream_id, code);
            }
        }
    }
    0
}

unsafe extern "C" fn on_close(
    _session: *mut ng::nghttp2_session,
    id: i32,
    _code: u32,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2.
    let state = unsafe { state(user) };
    state.close(id);
    0
}

pub(super) unsafe extern "C" fn read_body(
    session: *mut ng::nghttp2_session,
    id: i32,
    buffer: *mut u8,
    length: usize,
    flags: *mut u32,
    _source: *mut ng::nghttp2_data_source,
    user: *mut c_void,
) -> ng::nghttp2_ssize {
    // SAFETY: called by nghttp2 with room for `length` bytes, which it does not read.
    let (state, buffer) = unsafe {
        let buffer = buffer.cast::<std::mem::MaybeUninit<u8>>();
        (state(user), std::slice::from_raw_parts_mut(buffer, length))
    };
    let Some(stream) = state.streams.get_mut(&id) else {
        return ng::NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE as ng::nghttp2_ssize;
    };
    let Some((count, trailers)) = stream.body.read(buffer) else {
        return ng::NGHTTP2_ERR_DEFERRED as ng::nghttp2_ssize;
    };
    // Whoever takes a little now and then is slow, not stuck.
    stream.stuck = None;
    if let Some(trailers) = trailers {
        // SAFETY: nghttp2 gives a place for the flags, and allows trailers to be submitted here.
        unsafe {
            *flags |= ng::NGHTTP2_DATA_FLAG_EOF;
            if !trailers.is_empty() {
                let fields: Vec<_> = trailers
                    .iter()
                    .map(|(name, value)| field(name, value))
                    .collect();
                *flags |= ng::NGHTTP2_DATA_FLAG_NO_END_STREAM;
                if ng::nghttp2_submit_trailer(session, id, fields.as_ptr(), fields.len()) != 0 {
                    return ng::NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE as ng::nghttp2_ssize;
                }
            }
        }
    }
    count as ng::nghttp2_ssize
}
