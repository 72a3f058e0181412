//! Rings of tests that cross crates; here is what several of them share.

pub mod any_message;
pub mod codec;
pub mod compat;
pub mod history;
pub mod port;
pub mod proof;
pub mod proxy;
pub mod simulation;
mod transactional;
