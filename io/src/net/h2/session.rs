//! nghttp2's session: frames in, frames out, and what they say in between. It does no input or
//! output of its own.
#![allow(unsafe_code, reason = "nghttp2 is a C library")]

use std::{
    collections::{HashMap, VecDeque},
    ffi::c_int,
    sync::Arc,
    time::{Duration, Instant},
};

use libnghttp2_sys as ng;

use super::{
    callbacks::{field, install, read_body},
    fault::{Fault, check, fault},
    state::{Resets, State},
    stream::{Body, Incoming},
};
use crate::net::{
    budget::Held,
    limits::Limits,
    reply::{Credit, Fields, Response},
    request::Cancelled,
    server::Listener,
};

/// How long streams are not looked at, whatever they wait for: deadlines are kept besides.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// One side of an HTTP/2 connection: the server's.
#[derive(Debug)]
pub(in crate::net) struct Session {
    raw: *mut ng::nghttp2_session,
    /// What the callbacks change, behind a pointer of its own: they run inside of calls that have
    /// `raw`. Nobody refers to it during those calls.
    state: *mut State,
    /// When streams have to be looked at one by one: no later than the first deadline among them.
    look_at: Instant,
}

// SAFETY: both pointers are owned by this value alone, and nghttp2 has no thread-local state.
unsafe impl Send for Session {}

/// What came for somebody.
pub(in crate::net) enum Event {
    /// A request, whole, or one that is refused.
    Request(Incoming, Cancelled),
    /// The head of one whose body is wanted as it comes.
    Opened(Incoming, Cancelled),
}

impl Session {
    pub(in crate::net) fn server(limits: &Limits, held: Held, now: Instant) -> Result<Self, Fault> {
        let state = Box::into_raw(Box::new(State {
            limits: limits.clone(),
            streams: HashMap::default(),
            ready: VecDeque::new(),
            coming: 0,
            held,
            pongs: 0,
            resets: Resets::new(limits, now),
            now,
        }));
        let mut session = Self {
            raw: std::ptr::null_mut(),
            state,
            look_at: now,
        };
        // SAFETY: every object made here is deleted here, the session by `drop`, which accepts
        // null; it copies callbacks and options. The callbacks have the types that are asked for.
        unsafe {
            let mut callbacks = std::ptr::null_mut();
            check(ng::nghttp2_session_callbacks_new(&mut callbacks))?;
            install(callbacks);
            let mut option = std::ptr::null_mut();
            let made = check(ng::nghttp2_option_new(&mut option)).and_then(|()| {
                // `Resets` counts instead.
                ng::nghttp2_option_set_stream_reset_rate_limit(option, u64::MAX, 1);
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

    /// The next request that is there, with its stream. Those that `wants` chooses come before their
    /// bodies; what comes of those is told to the listener that they then get.
    pub(in crate::net) fn next(
        &mut self,
        wants: impl Fn(&Incoming) -> bool,
    ) -> Option<(i32, Event)> {
        let state = self.state();
        while let Some(id) = state.ready.pop_front() {
            // A stream may have been reset since.
            let Some(stream) = state.streams.get_mut(&id) else {
                continue;
            };
            if let Some(listener) = &mut stream.listener {
                let piece = std::mem::take(&mut stream.incoming.body);
                if stream.incoming.refusal.is_some() {
                    // Something is missing: whoever listens breaks off.
                    stream.listener = None;
                } else {
                    listener.piece(&piece);
                    if stream.has_ended {
                        listener.end();
                        stream.listener = None;
                    }
                }
                state.release(id);
                continue;
            }
            if stream.is_handed_over {
                continue;
            }
            let incoming = &mut stream.incoming;
            if incoming.refusal.is_none() && wants(incoming) {
                // What of its body is there already stays for the listener.
                let body = std::mem::take(&mut incoming.body);
                let opened = std::mem::take(incoming);
                incoming.body = body;
                stream.is_handed_over = true;
                let event = Event::Opened(opened, stream.cancelled.clone());
                state.release(id);
                return Some((id, event));
            }
            if incoming.refusal.is_some() || stream.has_ended {
                let incoming = std::mem::take(incoming);
                stream.is_head = incoming.method == "HEAD";
                stream.is_handed_over = true;
                let event = Event::Request(incoming, stream.cancelled.clone());
                state.release(id);
                return Some((id, event));
            }
        }
        None
    }

    /// Tells somebody of a request's body as it comes.
    pub(in crate::net) fn listen(&mut self, id: i32, listener: Box<dyn Listener>) {
        let state = self.state();
        if let Some(stream) = state.streams.get_mut(&id) {
            stream.listener = Some(listener);
            state.ready.push_front(id);
        }
    }

    /// Answers a stream, unless it is gone.
    pub(in crate::net) fn respond(&mut self, id: i32, response: Response) -> Result<(), Fault> {
        let Response {
            status,
            headers,
            body,
            trailers,
        } = response;
        let mut is_bare = body.is_empty() && trailers.is_none();
        let mut headers = headers;
        match self.state().streams.get_mut(&id) {
            Some(stream) if stream.body.has_begun => return Ok(()),
            Some(stream) if stream.is_head => {
                is_bare = true;
                headers.push(("content-length".into(), body.len().to_string().into()));
                stream.body = Body::bare(None);
            }
            Some(stream) => stream.body = Body::whole(body, trailers),
            None => return Ok(()),
        }
        self.submit(id, status, &headers, is_bare)
    }

    /// Has streams looked at by then.
    pub(in crate::net) fn look_by(&mut self, when: Instant) {
        self.look_at = self.look_at.min(when);
    }

    /// Answers the streams whose time is up, gives up those whose reader lets nothing of their answers
    /// go, and calls `late` for those whose requests are not whole after `limit`; says when to look
    /// again.
    pub(in crate::net) fn expire(
        &mut self,
        now: Instant,
        limit: Duration,
        late: impl Fn(),
    ) -> Option<Instant> {
        if self.state().streams.is_empty() {
            // The next one has to be looked at, whenever it comes.
            self.look_at = now;
            return None;
        }
        if now < self.look_at {
            return Some(self.look_at);
        }
        let mut next = now + LOOK_INTERVAL;
        let mut due = Vec::new();
        let mut given_up = Vec::new();
        // SAFETY: as for `receive`.
        let window = unsafe { ng::nghttp2_session_get_remote_window_size(self.raw) };
        let raw = self.raw;
        let state = self.state();
        let stalled = state.limits.stalled;
        for (id, stream) in &mut state.streams {
            // SAFETY: as for `receive`; it only reads.
            let is_stuck = stream.body.waits()
                && (window <= 0
                    || unsafe { ng::nghttp2_session_get_stream_remote_window_size(raw, *id) } <= 0);
            if is_stuck {
                let until = *stream.stuck.get_or_insert(now) + stalled;
                if until <= now {
                    given_up.push(*id);
                    continue;
                }
                next = next.min(until);
            } else {
                stream.stuck = None;
            }
            if !stream.is_handed_over {
                let until = stream.since + limit;
                if until <= now {
                    late();
                    given_up.push(*id);
                    continue;
                }
                next = next.min(until);
            }
            let Some(expiry) = stream.cancelled.expires() else {
                continue;
            };
            if stream.body.has_begun && !(expiry.cuts && stream.body.is_open()) {
                continue;
            }
            if expiry.until > now {
                next = next.min(expiry.until);
            } else {
                stream.cancelled.set();
                due.push((*id, expiry.otherwise));
            }
        }
        for (id, otherwise) in due {
            self.end_with(id, otherwise());
        }
        for id in given_up {
            self.reset(id, ng::NGHTTP2_CANCEL);
        }
        self.look_at = next;
        Some(next)
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
        let is_bare = match self.state().streams.get_mut(&id) {
            Some(stream) if !stream.body.has_begun => {
                stream.body = match stream.is_head {
                    true => Body::bare(Some(credit)),
                    false => Body::streamed(credit),
                };
                stream.is_head
            }
            _ => {
                credit.end();
                return Ok(());
            }
        };
        self.submit(id, head.status, &head.headers, is_bare)
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

    /// Gives up what needs more of the client's, who sends nothing more: requests that are not whole,
    /// and answers without an end.
    pub(in crate::net) fn abandon(&mut self) {
        let streams = self.state().streams.iter();
        let lost = streams.filter(|(_, stream)| {
            !stream.is_handed_over || stream.listener.is_some() || stream.body.is_open()
        });
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.reset(id, ng::NGHTTP2_CANCEL);
        }
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
