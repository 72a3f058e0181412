//! Groups whose members or whose broker are harmed.

pub(super) mod chaos;
pub(super) mod kill;
