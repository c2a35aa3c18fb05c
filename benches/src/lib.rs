//! Measurements of Kilter.
#![allow(
    clippy::float_arithmetic,
    reason = "rates, ratios and times; no money here"
)]

pub mod host;
pub mod measure;
