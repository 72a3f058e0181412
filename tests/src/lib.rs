//! Rings of tests that cross crates.
