//! What the targets that read files share: a partition's folder to be harmed, and the judge of what is left.

mod folder;

pub use folder::*;
