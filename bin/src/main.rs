//! The `kilter` program.

fn main() {}
