//! Settings: described, listed, and changed while the broker runs.

pub(crate) mod alter;
pub(crate) mod describe;
pub(crate) mod incremental_alter;
pub(crate) mod list;

mod change;
mod resource;
