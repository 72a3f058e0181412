//! The data folders of a node, and what is done to them while it runs.
//!
//! Each folder stands for itself: it has its lock, its mark of a clean stop, its flusher and its room. The
//! first one holds the metadata too. One that cannot be used costs the partitions that lie on it, and no others.
//!
//! In reading order: `data_dir` is a folder as it is found at the start, `folders` says which of them are used,
//! `directory` is one of those while the node runs, `space` its room, `strangers` what lies there and is not
//! ours, `maintenance` the work that nobody asks for.

pub(crate) mod compactions;
pub(crate) mod data_dir;
pub(crate) mod directory;
pub(crate) mod folders;
pub(crate) mod maintenance;
pub(crate) mod space;
mod strangers;
