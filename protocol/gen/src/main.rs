//! `millstream-protocol-gen` writes `protocol/src/generated`; with `--check` it only tells whether the files
//! there are what it would write.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use millstream_protocol_gen::{rust, schema};

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
    match if is_check { check(&target, &files) } else { write(&target, &files) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

/// File name under `protocol/src` to content.
fn generate(protocol: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let apis = schema::read_folder(&protocol.join("schema")).map_err(|error| error.to_string())?;
    rust::files(&apis).into_iter().map(|(name, text)| Ok((PathBuf::from(name), formatted(&text)?))).collect()
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

fn write(target: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    let folder = target.join("generated");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for stray in strays(&folder, files)? {
        std::fs::remove_file(stray).map_err(|error| error.to_string())?;
    }
    for (name, text) in files {
        let path = target.join(name);
        // A file that did not change keeps its time, and what depends on it is not built again.
        if std::fs::read_to_string(&path).ok().as_ref() != Some(text) {
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn check(target: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    let different = files.iter().map(|(name, text)| (target.join(name), text));
    let different =
        different.filter(|(path, text)| std::fs::read_to_string(path).ok().as_ref() != Some(*text));
    let mut wrong: Vec<PathBuf> = different.map(|(path, _)| path).collect();
    wrong.extend(strays(&target.join("generated"), files)?);
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} generated files are not what the schema says, the first is {}; run: cargo run -p millstream-protocol-gen",
            wrong.len(),
            first.display()
        )),
    }
}

/// Files in the folder that no message generates any more.
fn strays(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let stray = names.into_iter().filter(|name| !files.contains_key(&Path::new("generated").join(name)));
    Ok(stray.map(|name| folder.join(name)).collect())
}

fn failed(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{problem}");
    ExitCode::FAILURE
}
