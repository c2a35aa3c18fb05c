//! Logs and stores.
