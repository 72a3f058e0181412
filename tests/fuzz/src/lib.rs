//! What the targets that read files share: folders of partitions to be harmed, and the judges of what is left.

mod folder;
mod transactions;

pub use folder::*;
pub use transactions::*;
