//! Calls in which each message is answered as it comes.

use std::sync::Arc;

use super::{
    call::{Call, Messages},
    frame,
    service::Calls,
    status::{Code, Status},
};
use crate::net::Listener;

/// The longest message; what is asked in turns is short.
const MESSAGE_MAX: usize = 64 << 10;

/// One such call.
pub(super) struct Dialogue {
    calls: Arc<dyn Calls>,
    call: Call,
    /// What came of a message that is not whole.
    coming: Vec<u8>,
    /// `None` when it is over.
    messages: Option<Messages>,
}

impl Dialogue {
    pub(super) fn new(calls: Arc<dyn Calls>, call: Call, messages: Messages) -> Self {
        Self {
            calls,
            call,
            coming: Vec::new(),
            messages: Some(messages),
        }
    }

    /// Answers what is whole.
    fn answer(&mut self, messages: &Messages) -> Result<(), Status> {
        let mut used = 0;
        while let Some((message, length)) =
            frame::first(&self.coming[used..], &self.call.metadata, MESSAGE_MAX)?
        {
            let answer = self.calls.dialogue(&self.call, message)?;
            if !messages.push(&answer) {
                // Who asks and does not listen could have us keep any number of answers.
                let why = "more is asked than answers are read";
                return Err(Status::new(Code::ResourceExhausted, why));
            }
            used += length;
        }
        self.coming.drain(..used);
        Ok(())
    }
}

impl Listener for Dialogue {
    fn piece(&mut self, piece: &[u8]) {
        let Some(messages) = self.messages.take() else {
            return;
        };
        self.coming.extend_from_slice(piece);
        match self.answer(&messages) {
            Ok(()) => self.messages = Some(messages),
            Err(status) => {
                self.coming = Vec::new();
                messages.finish(status);
            }
        }
    }

    fn end(&mut self) {
        if let Some(messages) = self.messages.take() {
            messages.finish(match self.coming.is_empty() {
                true => Status::new(Code::Ok, ""),
                false => Status::new(Code::Internal, "the body ends within a message"),
            });
        }
    }
}
