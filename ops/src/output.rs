//! Standard output: tables and lines for people, JSON for scripts.

use std::io::{self, Write};

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// Prints rows under a header; columns whose cells are all numbers stand to the right.
///
/// # Errors
/// When standard output cannot be written, as with all functions here.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let numeric = |column: usize| {
        !rows.is_empty() && rows.iter().all(|row| row.get(column).is_some_and(|cell| is_number(cell)))
    };
    let right: Vec<usize> = (0..header.len()).filter(|column| numeric(*column)).collect();
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    table.add_rows(rows);
    for column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text(&lines.concat())
}

/// Prints one JSON value on one line, so that a stream of them can be read line by line.
///
/// # Errors
/// See [`table`].
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    text(&format!("{value}\n"))
}

/// Prints one line for people.
///
/// # Errors
/// See [`table`].
pub(crate) fn line(line: &str) -> anyhow::Result<()> {
    text(&format!("{line}\n"))
}

/// Prints text as it is.
///
/// # Errors
/// See [`table`].
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    io::stdout().lock().write_all(text.as_bytes()).context("standard output cannot be written")
}

fn is_number(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '.' | '-'))
}
