//! The real binary, as a person or a script uses it: started on free ports and in folders of its own, judged
//! by its output and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

#[path = "cli/config.rs"]
mod config;
#[path = "cli/consume.rs"]
mod consume;
#[path = "cli/format.rs"]
mod format;
#[path = "cli/group.rs"]
mod group;
#[path = "cli/log_files.rs"]
mod log_files;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/topic.rs"]
mod topic;
