//! `millstream-protocol-gen` writes `protocol/src/generated`; with `--check` it only tells whether the files
//! there are what it would write.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use millstream_protocol_gen::{folder, rust, schema};

fn main() -> ExitCode {
    let is_check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return failed("usage: millstream-protocol-gen [--check]"),
    };
    let protocol =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("gen lies inside protocol").to_owned();
    let files = match generate(&protocol) {
        Ok(files) => files,
        Err(problem) => return failed(&problem),
    };
    let target = protocol.join("src");
    match if is_check { folder::check(&target, &files) } else { folder::write(&target, &files) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

/// File name under `protocol/src` to content.
fn generate(protocol: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let folder = protocol.join("schema");
    let apis = schema::read_folder(&folder).map_err(|error| error.to_string())?;
    let records = schema::read_records(&folder).map_err(|error| error.to_string())?;
    rust::files(&apis, &records)
        .into_iter()
        .map(|(name, text)| Ok((PathBuf::from(name), formatted(&text)?)))
        .collect()
}

fn formatted(text: &str) -> Result<String, String> {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rustfmt.toml");
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path", config])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("rustfmt cannot be started: {error}"))?;
    let mut input = rustfmt.stdin.take().expect("stdin was piped");
    let text = text.to_owned();
    let feeder = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = rustfmt.wait_with_output().map_err(|error| error.to_string())?;
    feeder.join().expect("feeding does not panic").map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err("rustfmt did not accept the generated source".to_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn failed(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{problem}");
    ExitCode::FAILURE
}
