//! The machine that a figure was taken on.

use std::fs;

use serde::Serialize;

/// What a reader needs in order to judge the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) load_average: String,
}

impl Environment {
    /// Reads it; what cannot be read stays empty.
    pub(crate) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            processor: field(&text("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory_kib * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: text("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}
