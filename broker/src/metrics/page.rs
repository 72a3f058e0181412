//! A scrape's text of what has no handles: series that come and go.

use std::fmt::{self, Write};

/// Lines in Prometheus' form.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    /// What the lines that follow are.
    pub(super) fn about(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail, here and below.
        _ = writeln!(self.text, "# HELP millstream_{name} {help}\n# TYPE millstream_{name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: fmt::Arguments<'_>, value: impl fmt::Display) {
        _ = match labels.as_str() {
            Some("") => writeln!(self.text, "millstream_{name} {value}"),
            _ => writeln!(self.text, "millstream_{name}{{{labels}}} {value}"),
        };
    }
}
