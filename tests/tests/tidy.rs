//! House rules that no compiler checks: sizes of files and functions, how a file opens, and words that must not
//! stay. A rule has an exception only with a reason beside it.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
const LIB_LINES: usize = 120;
const MAIN_LINES: usize = 80;
const MODULES_PER_LEVEL: usize = 15;
const INLINE_TEST_LINES: usize = 200;

/// Files that a rule does not hold for: (rule, path, reason).
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "waiting",
        "tests/src/simulation/admin.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/commits.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/consumer.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/driver.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/producer.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/transactions.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/transactions/link.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/src/simulation/world.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "waiting",
        "tests/tests/simulation.rs",
        "one run that is printed for a person, by a seed that the person names",
    ),
    (
        "waiting",
        "tests/fuzz/fuzz_targets/transaction_state.rs",
        "time is virtual there: to sleep is to wait for the event that its end is",
    ),
    (
        "file length",
        "tests/fuzz/src/lib.rs",
        "the folder that its targets harm is all of the crate, and has no other root",
    ),
];

/// One Rust file of the workspace.
struct Source {
    path: String,
    lines: Vec<String>,
    /// Lines before the tests inside the file.
    production: usize,
    /// Whether all of it is test code.
    is_test: bool,
    /// Whether the generator wrote it.
    is_generated: bool,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository is readable") {
        let path = entry.expect("a folder of the repository is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "only {} Rust files found: the walk is broken", paths.len());
    paths.iter().map(|path| source(path)).collect()
}

fn source(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a Rust file is UTF-8");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let opens_tests = |at: &usize| {
        lines[*at].trim() == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.contains("mod "))
    };
    let production = (0..lines.len()).find(opens_tests).unwrap_or(lines.len());
    let path = path.strip_prefix(root()).expect("the walk began at the root").to_string_lossy().into_owned();
    let is_test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    let is_generated = path.starts_with("protocol/src/generated");
    Source { path, lines, production, is_test, is_generated }
}

/// Fails with every finding of a rule that is no exception.
fn report(rule: &str, findings: Vec<(String, String)>) {
    let excepted = |path: &str| EXCEPTIONS.iter().any(|(of, at, _)| *of == rule && *at == path);
    let wrong: Vec<String> = findings
        .into_iter()
        .filter(|(path, _)| !excepted(path))
        .map(|(path, finding)| format!("{path}: {finding}"))
        .collect();
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

/// The functions of a file: (first line counted from 1, name, lines), by the indentation that rustfmt gives them.
fn functions(lines: &[String]) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        let Some((before, after)) = body.split_once("fn ") else { continue };
        let modifiers = ["pub", "const", "async", "unsafe", "extern", "\"C\""];
        let is_head =
            before.split_whitespace().all(|word| modifiers.contains(&word.split('(').next().unwrap_or(word)));
        if !is_head || line.trim_end().ends_with(';') {
            continue;
        }
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let close = format!("{indent}}}");
        if let Some(length) = lines[at..].iter().position(|line| *line == close) {
            found.push((at + 1, name, length + 1));
        }
    }
    found
}

#[test]
fn the_rule_about_functions_sees_a_long_one() {
    let text = format!(
        "impl X {{\n    pub(crate) async fn long() {{\n{}    }}\n    fn short();\n}}",
        "        x();\n".repeat(80)
    );
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(functions(&lines), [(2, "long".to_owned(), 82)]);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent = |source: &Source| !source.lines.first().is_some_and(|line| line.starts_with("//!"));
    let findings =
        sources().into_iter().filter(silent).map(|file| (file.path, "begins without `//!`".to_owned()));
    report("opening", findings.collect());
}

#[test]
fn files_stay_short() {
    let limit = |path: &str| match path.rsplit('/').next() {
        Some("lib.rs") => LIB_LINES,
        Some("main.rs") => MAIN_LINES,
        _ => FILE_LINES,
    };
    let long = sources().into_iter().filter(|file| !file.is_generated && file.production > limit(&file.path));
    report("file length", long.map(|file| (file.path, format!("{} lines", file.production))).collect());
}

#[test]
fn tests_inside_a_file_stay_short() {
    let inline = |file: &Source| if file.is_test { 0 } else { file.lines.len() - file.production };
    let long = sources().into_iter().filter(|file| inline(file) > INLINE_TEST_LINES);
    report(
        "inline tests",
        long.map(|file| (file.path.clone(), format!("{} lines of tests", inline(&file)))).collect(),
    );
}

#[test]
fn functions_stay_short() {
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| !file.is_generated) {
        for (line, name, length) in functions(&file.lines) {
            if length > FUNCTION_LINES {
                findings.push((file.path.clone(), format!("line {line}: {name} has {length} lines")));
            }
        }
    }
    report("function length", findings);
}

#[test]
fn a_level_has_few_modules_and_no_mod_file() {
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| !file.is_generated) {
        if file.path.ends_with("/mod.rs") {
            findings.push((file.path.clone(), "is a mod.rs; name it after its folder, beside it".to_owned()));
        }
        let is_module = |line: &&String| {
            let declaration = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            declaration.starts_with("mod ") && declaration.ends_with(';')
        };
        let modules = file.lines[..file.production].iter().filter(is_module).count();
        if modules > MODULES_PER_LEVEL {
            findings.push((file.path.clone(), format!("declares {modules} modules")));
        }
    }
    report("modules", findings);
}

#[test]
fn nothing_unfinished_stays() {
    let words = ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX", "#[allow(dead_code", ".unwrap()"];
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| !file.is_test) {
        for (at, line) in file.lines[..file.production].iter().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            for word in words.iter().filter(|word| line.contains(**word)) {
                if !(is_comment && *word == ".unwrap()") {
                    findings.push((file.path.clone(), format!("line {}: {word}", at + 1)));
                }
            }
        }
    }
    report("unfinished", findings);
}

#[test]
fn tests_wait_for_events_and_none_is_switched_off() {
    // Written in two halves, or this file would find itself.
    let words = [concat!("#[ign", "ore"), concat!("thread::sl", "eep("), concat!("time::sl", "eep(")];
    let mut findings = Vec::new();
    for file in &sources() {
        let tests = if file.is_test { 0 } else { file.production };
        for (at, line) in file.lines.iter().enumerate().skip(tests) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push((file.path.clone(), format!("line {}: {word}", at + 1)));
            }
        }
    }
    report("waiting", findings);
}

#[test]
fn each_exception_is_still_needed_and_says_why() {
    for (rule, path, reason) in EXCEPTIONS {
        assert!(!reason.is_empty(), "{rule} {path}: no reason given");
        assert!(root().join(path).exists(), "{rule}: {path} is gone, so is its exception");
    }
}
