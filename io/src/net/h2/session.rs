//! nghttp2's session: frames in, frames out, and what they say in between. It does no input or
//! output of its own.
#![allow(unsafe_code, reason = "nghttp2 is a C library")]

use std::{
    collections::{HashMap, VecDeque},
    ffi::{c_int, c_void},
    sync::Arc,
    time::{Duration, Instant},
};

use libnghttp2_sys as ng;

use super::stream::{Body, Incoming};
use crate::net::{
    limits::Limits,
    reply::{Credit, Fields, Response},
    request::Cancelled,
};

/// Why a connection cannot go on; what nghttp2 has to say about it is still to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2: {0}")]
pub(in crate::net) struct Fault(pub(in crate::net) String);

fn fault(code: c_int) -> Fault {
    // SAFETY: it returns a static text for any number.
    let text = unsafe { std::ffi::CStr::from_ptr(ng::nghttp2_strerror(code)) };
    Fault(text.to_string_lossy().into_owned())
}

fn check(code: c_int) -> Result<(), Fault> {
    if code == 0 { Ok(()) } else { Err(fault(code)) }
}

/// One side of an HTTP/2 connection: the server's.
#[derive(Debug)]
pub(in crate::net) struct Session {
    raw: *mut ng::nghttp2_session,
    /// What the callbacks change, behind a pointer of its own: they run inside of calls that have
    /// `raw`. Nobody refers to it during those calls.
    state: *mut State,
}

// SAFETY: both pointers are owned by this value alone, and nghttp2 has no thread-local state.
unsafe impl Send for Session {}

#[derive(Debug)]
struct State {
    limits: Limits,
    streams: HashMap<i32, Stream>,
    complete: VecDeque<i32>,
    /// Bytes of bodies that are coming in.
    bodies_bytes: usize,
    pongs: u64,
    now: Instant,
}

#[derive(Debug)]
struct Stream {
    incoming: Incoming,
    /// Bytes of its body that count towards the connection's.
    counted: usize,
    cancelled: Cancelled,
    is_handed_over: bool,
    since: Instant,
    body: Body,
}

impl Session {
    pub(in crate::net) fn server(limits: &Limits) -> Result<Self, Fault> {
        let state = Box::into_raw(Box::new(State {
            limits: limits.clone(),
            streams: HashMap::new(),
            complete: VecDeque::new(),
            bodies_bytes: 0,
            pongs: 0,
            now: Instant::now(),
        }));
        let mut session = Self {
            raw: std::ptr::null_mut(),
            state,
        };
        // SAFETY: every object made here is deleted here, the session by `drop`, which accepts
        // null; it copies callbacks and options. The callbacks have the types that are asked for.
        unsafe {
            let mut callbacks = std::ptr::null_mut();
            check(ng::nghttp2_session_callbacks_new(&mut callbacks))?;
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
            let mut option = std::ptr::null_mut();
            let made = check(ng::nghttp2_option_new(&mut option)).and_then(|()| {
                ng::nghttp2_option_set_stream_reset_rate_limit(
                    option,
                    limits.resets_burst,
                    limits.resets_per_second,
                );
                check(ng::nghttp2_session_server_new2(
                    &mut session.raw,
                    callbacks,
                    state.cast(),
                    option,
                ))
            });
            if !option.is_null() {
                ng::nghttp2_option_del(option);
            }
            ng::nghttp2_session_callbacks_del(callbacks);
            made?;
        }
        session.begin(limits)?;
        Ok(session)
    }

    fn begin(&mut self, limits: &Limits) -> Result<(), Fault> {
        let window = limits.body_max_bytes.clamp(65_535, 1 << 20) as u32;
        let entry = |settings_id: u32, value| ng::nghttp2_settings_entry {
            settings_id: settings_id as i32,
            value,
        };
        let settings = [
            entry(
                ng::NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                limits.streams_max,
            ),
            entry(ng::NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window),
            entry(
                ng::NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
                limits.header_max_bytes as u32,
            ),
        ];
        // SAFETY: the session is alive, and the settings are copied.
        unsafe {
            check(ng::nghttp2_submit_settings(
                self.raw,
                0,
                settings.as_ptr(),
                settings.len(),
            ))?;
            check(ng::nghttp2_session_set_local_window_size(
                self.raw,
                0,
                0,
                (4 * window) as i32,
            ))
        }
    }

    /// Takes what came from the client.
    pub(in crate::net) fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.state().now = now;
        // SAFETY: the session is alive, the bytes are only read, and the callbacks use `state`,
        // which nothing here refers to.
        let taken = unsafe { ng::nghttp2_session_mem_recv2(self.raw, bytes.as_ptr(), bytes.len()) };
        if taken < 0 {
            return Err(fault(taken as c_int));
        }
        Ok(())
    }

    /// Appends what is to be sent, until there is nothing more or `most` bytes are in `to`.
    pub(in crate::net) fn fill(&mut self, to: &mut Vec<u8>, most: usize) -> Result<(), Fault> {
        while to.len() < most {
            let mut data = std::ptr::null();
            // SAFETY: as for `receive`; what it points to lasts until the next call.
            let bytes = unsafe {
                let length = ng::nghttp2_session_mem_send2(self.raw, &mut data);
                if length < 0 {
                    return Err(fault(length as c_int));
                }
                if length == 0 {
                    return Ok(());
                }
                std::slice::from_raw_parts(data, length as usize)
            };
            to.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The next request that is there whole, with its stream.
    pub(in crate::net) fn next(&mut self) -> Option<(i32, Incoming, Cancelled)> {
        let state = self.state();
        while let Some(id) = state.complete.pop_front() {
            // A stream may have been reset since.
            if let Some(stream) = state.streams.get_mut(&id)
                && !std::mem::replace(&mut stream.is_handed_over, true)
            {
                state.bodies_bytes -= std::mem::take(&mut stream.counted);
                let incoming = std::mem::take(&mut stream.incoming);
                return Some((id, incoming, stream.cancelled.clone()));
            }
        }
        None
    }

    /// Answers a stream, unless it is gone.
    pub(in crate::net) fn respond(&mut self, id: i32, response: Response) -> Result<(), Fault> {
        let Response {
            status,
            headers,
            body,
            trailers,
        } = response;
        let is_bare = body.is_empty() && trailers.is_none();
        match self.state().streams.get_mut(&id) {
            Some(stream) if !stream.body.has_begun => {
                stream.body = Body::whole(body, trailers);
            }
            _ => return Ok(()),
        }
        self.submit(id, status, &headers, is_bare)
    }

    /// Answers the streams whose time is up; says when the next one's is. There are never many.
    pub(in crate::net) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut due = Vec::new();
        for (id, stream) in &self.state().streams {
            let Some((until, otherwise)) = stream.cancelled.expires() else {
                continue;
            };
            if stream.body.has_begun && !stream.body.is_open() {
                continue;
            }
            if until > now {
                next = Some(next.map_or(until, |next| next.min(until)));
            } else {
                stream.cancelled.set();
                due.push((*id, otherwise));
            }
        }
        for (id, otherwise) in due {
            self.end_with(id, otherwise());
        }
        next
    }

    /// Answers a stream, or ends an answer that comes piece by piece.
    fn end_with(&mut self, id: i32, otherwise: Response) {
        let has_begun = match self.state().streams.get(&id) {
            None => return,
            Some(stream) => stream.body.has_begun,
        };
        if has_begun {
            let mut fields = otherwise.headers;
            fields.retain(|(name, _)| name != "content-type");
            self.end_body(id, fields);
        } else if self.respond(id, otherwise).is_err() {
            self.reset(id, ng::NGHTTP2_CANCEL);
        }
    }

    /// Begins an answer whose body comes piece by piece.
    pub(in crate::net) fn begin_body(
        &mut self,
        id: i32,
        head: Response,
        credit: Arc<Credit>,
    ) -> Result<(), Fault> {
        match self.state().streams.get_mut(&id) {
            Some(stream) if !stream.body.has_begun => stream.body = Body::streamed(credit),
            _ => {
                credit.end();
                return Ok(());
            }
        }
        self.submit(id, head.status, &head.headers, false)
    }

    /// A piece of such a body.
    pub(in crate::net) fn more(&mut self, id: i32, piece: Vec<u8>) {
        if let Some(stream) = self.state().streams.get_mut(&id) {
            stream.body.push(piece);
            self.resume(id);
        }
    }

    /// The end of such a body.
    pub(in crate::net) fn end_body(&mut self, id: i32, trailers: Fields) {
        if let Some(stream) = self.state().streams.get_mut(&id) {
            stream.body.finish(trailers);
            self.resume(id);
        }
    }

    fn resume(&mut self, id: i32) {
        // SAFETY: as for `receive`. A stream that is not deferred is no fault: it is being sent.
        let _ = unsafe { ng::nghttp2_session_resume_data(self.raw, id) };
    }

    fn submit(
        &mut self,
        id: i32,
        status: u16,
        headers: &Fields,
        is_bare: bool,
    ) -> Result<(), Fault> {
        let status = status.to_string();
        let mut fields = Vec::with_capacity(headers.len() + 1);
        fields.push(field(":status", &status));
        fields.extend(headers.iter().map(|(name, value)| field(name, value)));
        let provider = ng::nghttp2_data_provider2 {
            source: ng::nghttp2_data_source {
                ptr: std::ptr::null_mut(),
            },
            read_callback: Some(read_body),
        };
        // SAFETY: as for `receive`; fields and provider are copied.
        check(unsafe {
            ng::nghttp2_submit_response2(
                self.raw,
                id,
                fields.as_ptr(),
                fields.len(),
                if is_bare { std::ptr::null() } else { &provider },
            )
        })
    }

    /// Gives a stream up.
    pub(in crate::net) fn reset(&mut self, id: i32, code: u32) {
        // SAFETY: as for `receive`. Fails only without memory, and then all is over soon.
        let _ = unsafe { ng::nghttp2_submit_rst_stream(self.raw, 0, id, code) };
    }

    /// Asks whether the client is there.
    pub(in crate::net) fn ping(&mut self) {
        // SAFETY: as for `receive`; without data it sends zeros.
        let _ = unsafe { ng::nghttp2_submit_ping(self.raw, 0, std::ptr::null()) };
    }

    /// How often the client answered that.
    pub(in crate::net) fn pongs(&mut self) -> u64 {
        self.state().pongs
    }

    /// The first step of stopping: says that new streams had better go elsewhere.
    pub(in crate::net) fn notice(&mut self) {
        // SAFETY: as for `receive`.
        let _ = unsafe { ng::nghttp2_submit_shutdown_notice(self.raw) };
    }

    /// The second step: no stream behind those that are being worked on.
    pub(in crate::net) fn go_away(&mut self, code: u32) {
        // SAFETY: as for `receive`.
        let _ = unsafe {
            let last = ng::nghttp2_session_get_last_proc_stream_id(self.raw);
            ng::nghttp2_submit_goaway(self.raw, 0, last, code, std::ptr::null(), 0)
        };
    }

    /// Streams whose requests are not whole after so long.
    pub(in crate::net) fn late(&mut self, now: Instant, limit: Duration) -> Vec<i32> {
        let streams = self.state().streams.iter();
        let late = streams.filter(|(_, stream)| {
            !stream.is_handed_over && now.saturating_duration_since(stream.since) >= limit
        });
        late.map(|(id, _)| *id).collect()
    }

    /// How many streams are open.
    pub(in crate::net) fn open(&mut self) -> usize {
        self.state().streams.len()
    }

    /// Whether there is nothing more to send or receive.
    pub(in crate::net) fn is_finished(&mut self) -> bool {
        // SAFETY: as for `receive`.
        unsafe {
            ng::nghttp2_session_want_read(self.raw) == 0
                && ng::nghttp2_session_want_write(self.raw) == 0
        }
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: it was made by `Box` and lives as long as this value; callbacks, which use it
        // too, run only inside of calls that have no reference to it.
        unsafe { &mut *self.state }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for stream in self.state().streams.values() {
            stream.gone();
        }
        // SAFETY: both are this value's own; the session goes first, because it could call back.
        unsafe {
            ng::nghttp2_session_del(self.raw);
            drop(Box::from_raw(self.state));
        }
    }
}

impl Stream {
    fn gone(&self) {
        self.cancelled.set();
        self.body.gone();
    }
}

fn field(name: &str, value: &str) -> ng::nghttp2_nv {
    ng::nghttp2_nv {
        name: name.as_ptr().cast_mut(),
        value: value.as_ptr().cast_mut(),
        namelen: name.len(),
        valuelen: value.len(),
        flags: ng::NGHTTP2_NV_FLAG_NONE as u8,
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
        let stream = Stream {
            incoming: Incoming::default(),
            counted: 0,
            cancelled: Cancelled::default(),
            is_handed_over: false,
            since: state.now,
            body: Body::default(),
        };
        state.streams.insert(hd.stream_id, stream);
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
    if is_request && let Some(stream) = state.streams.get_mut(&hd.stream_id) {
        stream.incoming.field(name, value, &state.limits);
    }
    0
}

unsafe extern "C" fn on_data(
    session: *mut ng::nghttp2_session,
    _flags: u8,
    id: i32,
    data: *const u8,
    length: usize,
    user: *mut c_void,
) -> c_int {
    // SAFETY: called by nghttp2 with data that is alive.
    let (state, data) = unsafe { (state(user), std::slice::from_raw_parts(data, length)) };
    let Some(stream) = state.streams.get_mut(&id) else {
        return 0;
    };
    if stream.is_handed_over {
        return 0;
    }
    if state.bodies_bytes + length > state.limits.bodies_max_bytes {
        // SAFETY: nghttp2 allows this in a callback.
        unsafe { ng::nghttp2_submit_rst_stream(session, 0, id, ng::NGHTTP2_REFUSED_STREAM) };
        return 0;
    }
    let before = stream.incoming.body.len();
    if stream.incoming.data(data, &state.limits) {
        // Answered before it is whole: what still comes is thrown away.
        state.complete.push_back(id);
    }
    let now = stream.incoming.body.len();
    stream.counted = now;
    state.bodies_bytes = state.bodies_bytes + now - before;
    0
}

unsafe extern "C" fn on_frame(
    _session: *mut ng::nghttp2_session,
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
    let has_body = [ng::NGHTTP2_DATA, ng::NGHTTP2_HEADERS].contains(&kind);
    if has_body && ends && state.streams.contains_key(&hd.stream_id) {
        state.complete.push_back(hd.stream_id);
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
    if let Some(stream) = state.streams.remove(&id) {
        state.bodies_bytes -= stream.counted;
        stream.gone();
    }
    0
}

unsafe extern "C" fn read_body(
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
