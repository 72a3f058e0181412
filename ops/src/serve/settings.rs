//! From raw to resolved: command line over environment over file over defaults.
//!
//! Whether a key exists and a value fits is the broker's to say: its registry is the only list. Options such
//! as `--listen` are other spellings of keys in it, so that one rule orders them all. The environment is read
//! here, once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use millstream_broker::settings::{REGISTRY, check};
use millstream_broker::{Broker, BrokerBuilder};

use super::SettingArgs;
use crate::outcome::WrongCommandLine;

/// The binary serves HTTP unless told otherwise; the library does not.
const HTTP_DEFAULT: &str = "127.0.0.1:9192";

const PREFIX: &str = "MILLSTREAM_";

/// Variables that name a key by another name.
const SHORT_NAMES: [(&str, &str); 3] =
    [("DATA_DIR", "log.dir"), ("LISTEN", "listeners"), ("HTTP", "http.listener")];

/// Variables that are no settings of the broker: options read them.
const OPTIONS: [&str; 4] = ["CONFIG", "LOG", "LOG_FORMAT", "BOOTSTRAP"];

/// Where a value was written; later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the binary's default"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}

/// Every key that was written, with its checked value and where that was written.
#[derive(Debug)]
pub(crate) struct Resolved(BTreeMap<String, (String, Origin)>);

impl Resolved {
    /// The broker that these settings describe, not yet started.
    pub(super) fn builder(&self) -> BrokerBuilder {
        self.0.iter().fold(Broker::builder(), |builder, (key, (value, _))| builder.set(key, value))
    }

    /// Where the data will lie.
    pub(super) fn data_dir(&self) -> PathBuf {
        let default = || REGISTRY.iter().find(|knob| knob.name == "log.dir").map(|knob| knob.default);
        self.written("log.dir").map(|(value, _)| value).or_else(default).unwrap_or_default().into()
    }

    /// What was written for a key, and where.
    pub(crate) fn written(&self, key: &str) -> Option<(&str, &Origin)> {
        self.0.get(key).map(|(value, origin)| (value.as_str(), origin))
    }

    fn put(&mut self, key: &str, value: &str, origin: &Origin) -> anyhow::Result<()> {
        let value = if key == "http.listener" && value == "off" { "" } else { value };
        let checked = check(key, value);
        if *origin == Origin::CommandLine {
            checked.context(WrongCommandLine)?;
        } else {
            checked.with_context(|| format!("{origin} is wrong"))?;
        }
        self.0.insert(key.to_owned(), (value.to_owned(), origin.clone()));
        Ok(())
    }
}

/// Puts all sources over each other.
///
/// # Errors
/// When the file cannot be read, or a key or value is wrong; says where it was written.
pub(super) fn resolve(
    args: &SettingArgs,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Resolved> {
    let mut resolved = Resolved(BTreeMap::new());
    resolved.put("http.listener", HTTP_DEFAULT, &Origin::Default)?;
    if let Some(path) = &args.config {
        let origin = Origin::File(path.clone());
        for (key, value) in read_file(path)? {
            resolved.put(&key, &value, &origin)?;
        }
    }
    for (name, key, value) in settings_of(environment)? {
        resolved.put(&key, &value, &Origin::Environment(name))?;
    }
    for (key, value) in &args.set {
        resolved.put(key, value, &Origin::CommandLine)?;
    }
    let data_dir =
        args.data_dir.as_deref().map(|path| path.to_str().context("--data-dir is not UTF-8")).transpose()?;
    let options = [data_dir, args.listen.as_deref(), args.http.as_deref()];
    for ((_, key), value) in SHORT_NAMES.iter().zip(options) {
        if let Some(value) = value {
            resolved.put(key, value, &Origin::CommandLine)?;
        }
    }
    Ok(resolved)
}

/// Reads a TOML file; `[num] partitions = 3` and `num.partitions = 3` and `"num.partitions" = 3` are the same.
fn read_file(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
    let mut pairs = Vec::new();
    flatten("", &table, &mut pairs).with_context(|| format!("{} is wrong", path.display()))?;
    Ok(pairs)
}

fn flatten(prefix: &str, table: &toml::Table, pairs: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::String(text) => pairs.push((key, text.clone())),
            toml::Value::Integer(number) => pairs.push((key, number.to_string())),
            toml::Value::Boolean(flag) => pairs.push((key, flag.to_string())),
            toml::Value::Float(number) => pairs.push((key, number.to_string())),
            toml::Value::Table(inner) => flatten(&key, inner, pairs)?,
            toml::Value::Array(_) | toml::Value::Datetime(_) => {
                bail!("'{key}' is {}; settings are text, numbers, true or false", value.type_str())
            }
        }
    }
    Ok(())
}

/// The variables that are settings: name, key, value. An empty variable counts as not set, as in a shell.
fn settings_of(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Vec<(String, String, String)>> {
    let mut settings = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(suffix) = name.strip_prefix(PREFIX) else { continue };
        if OPTIONS.contains(&suffix) || is_from_kubernetes(suffix) || value.is_empty() {
            continue;
        }
        let short = SHORT_NAMES.iter().find(|(short, _)| *short == suffix).map(|(_, key)| *key);
        let known = REGISTRY.iter().map(|knob| knob.name).find(|key| variable_of(key) == suffix);
        let key = short.or(known).map_or_else(|| suffix.to_lowercase().replace('_', "."), str::to_owned);
        let value = value.into_string().ok().with_context(|| format!("{name} is not UTF-8"))?;
        settings.push((name.to_owned(), key, value));
    }
    // The order of an environment is nobody's intention: let it not decide between two spellings of one key.
    settings.sort();
    Ok(settings)
}

/// `num.partitions` is `NUM_PARTITIONS`.
fn variable_of(key: &str) -> String {
    key.to_uppercase().replace(['.', '-'], "_")
}

/// Kubernetes puts the addresses of services into the environment of every container: a service called
/// `millstream` yields MILLSTREAM_SERVICE_HOST, MILLSTREAM_PORT, MILLSTREAM_PORT_9092_TCP_ADDR and so on.
fn is_from_kubernetes(suffix: &str) -> bool {
    let suffix = format!("_{suffix}");
    suffix.contains("_SERVICE_HOST")
        || suffix.contains("_SERVICE_PORT")
        || suffix.ends_with("_PORT")
        || (suffix.contains("_PORT_") && (suffix.contains("_TCP") || suffix.contains("_UDP")))
}

#[cfg(test)]
mod tests;
