//! gRPC on HTTP/2: calls with one message each way, a stream of them back, or one for each that comes.
//!
//! Messages are handed on as they came, undecoded; encoding other than identity is refused as the
//! protocol asks. A call's deadline is kept here: when it passes before an answer, the client is
//! told DEADLINE_EXCEEDED, and whoever still works on it that nobody waits.

mod call;
mod dialogue;
mod frame;
mod service;
mod status;
mod timeout;

pub use call::{Call, Messages, Respond};
pub use service::{Calls, Grpc, Kind};
pub use status::{Code, Status};
