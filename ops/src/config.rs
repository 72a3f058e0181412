//! `millstream config`: what can be set, read off the broker's registry; what is set, and setting it while a broker runs.

mod dynamic;
mod show;

use clap::{Args, Subcommand};
use millstream_broker::settings::{Effect, Kind, Knob, REGISTRY};
use serde_json::json;

use crate::outcome::Outcome;
use crate::output;

/// The commands about settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// List every setting with its default
    List(ListArgs),
    /// Show what a broker would be started with, and where that was written
    Show(Box<show::ShowArgs>),
    /// Show settings of a topic, a group or a broker that runs
    Get(dynamic::GetArgs),
    /// Change settings of a topic, a group or a broker that runs; in force at once, and kept
    Set(dynamic::SetArgs),
    /// Take settings back that were set
    Unset(dynamic::UnsetArgs),
    /// Print docs/CONFIG.md
    Docs,
}

/// What `config list` can be told.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object per setting
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
///
/// # Errors
/// What the command says, or standard output.
pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<Outcome> {
    match command {
        ConfigCommand::List(ListArgs { json: false }) => {
            let row = |knob: &Knob| {
                let own = knob.topic_name().or(knob.group_name()).unwrap_or_default();
                vec![knob.name.to_owned(), shown(knob.default).to_owned(), own.to_owned()]
            };
            output::table(
                &["setting", "default", "on a topic or group"],
                REGISTRY.iter().map(row).collect(),
            )?;
        }
        ConfigCommand::List(ListArgs { json: true }) => {
            for knob in REGISTRY {
                output::json(&json!({
                    "name": knob.name, "topic_name": knob.topic_name(), "group_name": knob.group_name(),
                    "default": knob.default,
                    "values": values(knob.kind), "live": knob.effect == Effect::AtOnce, "doc": knob.doc,
                }))?;
            }
        }
        ConfigCommand::Docs => output::text(&document())?,
        ConfigCommand::Show(args) => return show::run(&args),
        ConfigCommand::Get(args) => return dynamic::get(&args),
        ConfigCommand::Set(args) => return dynamic::set(args),
        ConfigCommand::Unset(args) => return dynamic::unset(args),
    }
    Ok(Outcome::Done)
}

/// `docs/CONFIG.md`; a test compares it with the file.
fn document() -> String {
    let mut text = String::from(INTRODUCTION);
    for knob in REGISTRY {
        text += &format!("\n### `{}`\n\n{}\n\n", knob.name, knob.doc);
        text += &format!("- Values: {}\n- Default: `{}`\n", values(knob.kind), shown(knob.default));
        if let Some(name) = knob.topic_name() {
            text += &format!("- On a topic: `{name}`\n");
        }
        if let Some(name) = knob.group_name() {
            text += &format!("- On a group: `{name}`\n");
        }
        text += match knob.effect {
            Effect::AtOnce => "- Can be set while the broker runs\n",
            Effect::AtStart => "- Read when the broker starts\n",
        };
    }
    text
}

const INTRODUCTION: &str = "\
# Settings

<!-- Printed by `millstream config docs`; a test compares. Change broker/src/settings/registry.rs instead. -->

Names are Kafka's where Kafka has one. A setting can be written, from the weakest to the strongest:

1. in a TOML file given by `--config FILE`: `num.partitions = 3`, or in tables, `[num]` and `partitions = 3`;
2. in the environment: `MILLSTREAM_NUM_PARTITIONS=3` (upper case, `_` for `.`);
3. on the command line: `--set num.partitions=3`.

`--data-dir`, `--listen` and `--http` (`MILLSTREAM_DATA_DIR`, `MILLSTREAM_LISTEN`, `MILLSTREAM_HTTP`) are short for
`log.dir`, `listeners` and `http.listener`; the binary's default for the last is `127.0.0.1:9192`, and `off` means none.
An unknown name is an error, so that a slip is not a silent default. `millstream config show --origin`, with the options
of `serve`, tells what comes of it and which place each value is from.

Settings with a name \"on a topic\" can also be given to one topic, when it is created or later:
`millstream topic create orders --config segment.bytes=1048576`. Those with a name \"on a group\" can be given to one group of
the new protocol, whether it is there already or not, and stay when the group is deleted:
`millstream config set --group billing consumer.session.timeout.ms=60000`.

What can be set while the broker runs is set with `millstream config set --topic orders retention.ms=86400000` (or
`--broker 1`, or `--all-brokers`), or with any client of Kafka (`kafka-configs`), for all brokers or for one; it
takes effect at once, also on what is open, is kept with the metadata, and wins over the three places above. The
strongest is what a topic or group sets for itself, then what is set for one broker, then for all brokers.
";

fn shown(default: &str) -> &str {
    if default.is_empty() { "(empty)" } else { default }
}

fn values(kind: Kind) -> String {
    match kind {
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Never => "`false`".to_owned(),
        Kind::Int { min, max } => range(i64::from(min), (max != i32::MAX).then_some(i64::from(max))),
        Kind::Long { min, max } => range(min, (max != i64::MAX).then_some(max)),
        Kind::Ratio => "a number from 0 to 1".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::List(words) => list(words),
        Kind::Subset(words) => list(words) + ", or empty",
        Kind::Address => "HOST:PORT, or empty".to_owned(),
        Kind::Text => "text".to_owned(),
    }
}

fn list(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    format!("one or more of {words}, with commas between them")
}

fn range(min: i64, max: Option<i64>) -> String {
    match max {
        Some(max) if max == min => format!("`{min}`"),
        Some(max) => format!("a whole number from {min} to {max}"),
        None => format!("a whole number from {min}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_md_says_what_the_registry_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIG.md");
        let file = std::fs::read_to_string(path).unwrap();
        assert!(
            file == document(),
            "docs/CONFIG.md is out of date: run `millstream config docs > docs/CONFIG.md`"
        );
    }
}
