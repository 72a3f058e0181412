//! What proofs on the real binary stand on, in reading order: the process that is harmed, who harms it and the way to it, a
//! client that hides nothing, what is sent and noted, clients of ours, and what becomes of the notes.

pub(super) mod broker;
pub(super) mod tracer;

pub(super) mod consumer_group;
pub(super) mod group;
pub(super) mod scribe;
pub(super) mod way;
pub(super) mod wire;

pub(super) mod payload;
pub(super) mod recorder;

pub(super) mod load;

pub(super) mod verdict;
