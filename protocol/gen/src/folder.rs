//! The folder of generated files: brings it up to date, or tells whether it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Writes what differs, and removes what no message generates any more.
///
/// # Errors
/// In words, when a file cannot be written.
pub fn write(target: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
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

/// Compares without writing.
///
/// # Errors
/// In words, when something differs.
pub fn check(target: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
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
