//! `millstream config show`: what a broker would be started with.

use clap::Args;
use millstream_broker::settings::REGISTRY;
use serde_json::json;

use crate::outcome::Outcome;
use crate::output;
use crate::serve::{SettingArgs, resolve_settings};

/// What `config show` can be told: all that `serve` can, to see what comes of it.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Where each value was written
    #[arg(long)]
    origin: bool,
    /// All settings, also those at their default
    #[arg(long)]
    all: bool,
    /// One JSON object per setting
    #[arg(long)]
    json: bool,
}

/// Shows the settings that these options, this environment and this file come to.
///
/// # Errors
/// When the file cannot be read, or a key or value is wrong; says where it was written.
pub(super) fn run(args: &ShowArgs) -> anyhow::Result<Outcome> {
    let resolved = resolve_settings(&args.settings)?;
    let mut rows = Vec::new();
    for knob in REGISTRY {
        let written = resolved.written(knob.name);
        if written.is_none() && !args.all {
            continue;
        }
        let (value, origin) = written.map_or_else(
            || (knob.default, "default".to_owned()),
            |(value, origin)| (value, origin.to_string()),
        );
        if args.json {
            output::json(&json!({ "name": knob.name, "value": value, "origin": origin }))?;
            continue;
        }
        let value = if value.is_empty() { "(empty)" } else { value };
        let mut row = vec![knob.name.to_owned(), value.to_owned()];
        row.extend(args.origin.then_some(origin));
        rows.push(row);
    }
    if !args.json {
        let header: &[&str] =
            if args.origin { &["setting", "value", "origin"] } else { &["setting", "value"] };
        output::table(header, rows)?;
    }
    Ok(Outcome::Done)
}
