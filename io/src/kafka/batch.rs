//! A batch of records as librdkafka holds them: borrowed, not copied.

use std::ffi::{CStr, c_void};

use kilter_engine::{headers::HeadersWriter, record::NOT_ISSUED};
use rdkafka::bindings as ffi;

use super::client::CommandConsumer;

/// How many records are taken at once.
const BATCH: usize = 1024;

/// Records that were fetched, until each is taken.
pub(super) struct Batch {
    queue: *mut ffi::rd_kafka_queue_t,
    messages: Vec<*mut ffi::rd_kafka_message_t>,
}

// SAFETY: the queue and its messages may be used from any thread, by one at a time; `&mut self`
// sees to that.
unsafe impl Send for Batch {}

/// One record or one error of a batch.
#[derive(Clone, Copy)]
pub(super) struct Fetched<'a>(&'a ffi::rd_kafka_message_t);

impl Batch {
    /// Reads what `consumer` is assigned to. The consumer must outlive the batch.
    pub(super) fn of(consumer: &CommandConsumer) -> Self {
        // SAFETY: the client is alive; the queue is given back in `drop`.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(consumer.native()) };
        assert!(!queue.is_null(), "a consumer with a group has a queue");
        Self {
            queue,
            messages: Vec::with_capacity(BATCH),
        }
    }

    pub(super) fn queue(&self) -> *mut ffi::rd_kafka_queue_t {
        self.queue
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn get(&self, index: usize) -> Fetched<'_> {
        // SAFETY: librdkafka gave it, and it is destroyed only by `clear`, which takes `&mut`.
        Fetched(unsafe { &*self.messages[index] })
    }

    /// Gives the records back, and takes what has come in since, without waiting.
    pub(super) fn refill(&mut self) {
        self.clear();
        // Waiting would wait for a whole batch, so there is none.
        // SAFETY: there is room for as many as are asked for, and as many are filled in as the
        // answer says.
        unsafe {
            let count =
                ffi::rd_kafka_consume_batch_queue(self.queue, 0, self.messages.as_mut_ptr(), BATCH);
            self.messages
                .set_len(usize::try_from(count).unwrap_or_default());
        }
    }

    fn clear(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: ours since it was consumed, and nobody borrows it any more.
            unsafe { ffi::rd_kafka_message_destroy(message) };
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: got in `of`, given back once.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) };
    }
}

impl<'a> Fetched<'a> {
    /// What went wrong instead of a record: librdkafka's code, and in words.
    pub(super) fn error(self) -> Option<(ffi::rd_kafka_resp_err_t, String)> {
        let code = self.0.err;
        if code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is alive; the text belongs to it or to the library.
        let text = unsafe {
            let text = ffi::rd_kafka_message_errstr(self.0);
            if text.is_null() {
                ffi::rd_kafka_err2str(code)
            } else {
                text
            }
        };
        // SAFETY: a text that ends with 0.
        let text = unsafe { CStr::from_ptr(text) };
        Some((code, text.to_string_lossy().into_owned()))
    }

    pub(super) fn partition(self) -> u32 {
        self.0.partition as u32
    }

    pub(super) fn offset(self) -> u64 {
        self.0.offset as u64
    }

    pub(super) fn key(self) -> Option<&'a [u8]> {
        bytes(self.0.key, self.0.key_len)
    }

    pub(super) fn value(self) -> Option<&'a [u8]> {
        bytes(self.0.payload, self.0.len)
    }

    /// The record's time in ms since 1970, if it is the log's own.
    pub(super) fn log_time_ms(self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let time_ms = unsafe { ffi::rd_kafka_message_timestamp(self.0, &mut kind) };
        let logs = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
        (kind == logs).then_some(time_ms)
    }

    /// Calls `each` with names and values of the headers.
    pub(super) fn headers(self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is alive; the headers live as long as it does.
        let code = unsafe { ffi::rd_kafka_message_headers(self.0, &mut headers) };
        if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let mut name = std::ptr::null();
            let mut value: *const c_void = std::ptr::null();
            let mut size = 0;
            // SAFETY: headers of a message that is alive; an index behind the end is told.
            let code = unsafe {
                ffi::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size)
            };
            if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: a text that ends with 0 and lives as long as the message.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            each(name, bytes(value.cast_mut(), size));
        }
    }

    /// Writes headers and what is missing, as they travel beside the record; gives `issuedAt` in
    /// ms. One that cannot be read, or comes twice, lies behind all time: the record is refused,
    /// because without it nobody can say whether it is too old.
    pub(super) fn write_headers(self, to: &mut Vec<u8>) -> i64 {
        let mut issued_at_ms = NOT_ISSUED;
        let mut writer = HeadersWriter::new(to, self.key().is_none(), self.value().is_none());
        self.headers(|name, value| {
            writer.header(name, value);
            if name == b"issuedAt" {
                let read = value
                    .and_then(|value| std::str::from_utf8(value).ok())
                    .and_then(|text| text.parse::<i64>().ok())
                    .filter(|ms| *ms >= 0 && issued_at_ms == NOT_ISSUED);
                issued_at_ms = read.unwrap_or(i64::MAX);
            }
        });
        issued_at_ms
    }
}

fn bytes<'a>(start: *mut c_void, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: librdkafka's pointer and length of a part of a message that the caller borrows.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}
