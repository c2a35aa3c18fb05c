//! Measurements of Kilter.
