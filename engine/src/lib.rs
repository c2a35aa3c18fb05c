//! The balance engine.
