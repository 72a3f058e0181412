//! The typed registry of settings: what can be set, its bounds, its default, and what was set.
//!
//! One table (`REGISTRY`) serves the builder, the configuration file, DescribeConfigs and the documents.
//! Values are checked one by one when they are written, their relations when the broker starts; parts of
//! the broker receive a narrowed struct, never the table.

mod broker;
mod edits;
mod group_times;
mod groups;
mod layers;
mod registry;
mod topic;
mod transactions;

use std::collections::BTreeMap;

pub(crate) use broker::{BrokerSettings, ReplicationPolicy};
pub(crate) use edits::{Edit, Edits, Kept};
pub(crate) use group_times::{GroupOverrides, GroupOwn, Pace};
pub(crate) use groups::GroupSettings;
pub(crate) use layers::{Layer, Layers};
pub use registry::REGISTRY;
pub(crate) use topic::TopicSettings;
pub(crate) use transactions::TransactionSettings;

/// One thing that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// The broker's name for it: Kafka's where Kafka has one.
    pub name: &'static str,
    /// Where it can be set.
    pub scope: Scope,
    /// When a value that is set on a running broker takes effect.
    pub effect: Effect,
    /// What values look like.
    pub kind: Kind,
    /// The value when nothing is set, as it would be written.
    pub default: &'static str,
    /// One or two sentences for a person.
    pub doc: &'static str,
}

/// When a new value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// When the broker starts; it cannot be set while it runs.
    AtStart,
    /// At once: it can be set while the broker runs, for all brokers or for one.
    AtOnce,
}

/// Where a knob can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// For the broker.
    Broker,
    /// For one topic as well, under the name given here; the broker's value is the default of all topics.
    /// It takes effect at once.
    Topic(&'static str),
    /// For one group as well, under the name given here; the broker's value holds for all others.
    Group(&'static str),
}

/// What the values of a knob look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// `false`: what it would switch on is not there, and tools ask whether it is.
    Never,
    /// A 32-bit number between two bounds, both allowed.
    Int {
        /// The least value.
        min: i32,
        /// The greatest value.
        max: i32,
    },
    /// A 64-bit number between two bounds, both allowed.
    Long {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// A part of one, as a decimal number from 0 to 1.
    Ratio,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One or more of these words, each once, with commas between them.
    List(&'static [&'static str]),
    /// The same, or nothing.
    Subset(&'static [&'static str]),
    /// HOST:PORT, or nothing.
    Address,
    /// Any text.
    Text,
}

impl Knob {
    /// The name under which a topic sets it, if a topic can.
    pub fn topic_name(&self) -> Option<&'static str> {
        match self.scope {
            Scope::Topic(name) => Some(name),
            Scope::Broker | Scope::Group(_) => None,
        }
    }

    /// The name under which a group sets it, if a group can.
    pub fn group_name(&self) -> Option<&'static str> {
        match self.scope {
            Scope::Group(name) => Some(name),
            Scope::Broker | Scope::Topic(_) => None,
        }
    }

    fn check(&self, written: &str) -> Result<(), SettingError> {
        self.check_as(self.name, written)
    }

    /// Checks a value that was written under one of the knob's names.
    fn check_as(&self, name: &'static str, written: &str) -> Result<(), SettingError> {
        if written.len() > VALUE_BYTES_MAX {
            return Err(SettingError::TooLong { name, bytes: written.len() });
        }
        let value = written.to_owned();
        match self.kind {
            Kind::Boolean if written.parse::<bool>().is_ok() => Ok(()),
            Kind::Boolean => Err(SettingError::NotBoolean { name, value }),
            Kind::Never if written == "false" => Ok(()),
            Kind::Never => Err(SettingError::NotAChoice { name, value, choices: "false".to_owned() }),
            Kind::Int { min, max } => check_number(name, written, i64::from(min), i64::from(max)),
            Kind::Long { min, max } => check_number(name, written, min, max),
            Kind::Ratio if ppm(written).is_some() => Ok(()),
            Kind::Ratio => Err(SettingError::NotARatio { name, value }),
            Kind::Choice(words) if words.contains(&written) => Ok(()),
            Kind::Choice(words) => Err(SettingError::NotAChoice { name, value, choices: words.join(", ") }),
            Kind::List(words) if is_list_of(words, written) => Ok(()),
            Kind::List(words) => Err(SettingError::NotAList { name, value, choices: words.join(", ") }),
            Kind::Subset(words) if written.is_empty() || is_list_of(words, written) => Ok(()),
            Kind::Subset(words) => Err(SettingError::NotAList { name, value, choices: words.join(", ") }),
            Kind::Address if written.is_empty() || parse_address(written).is_some() => Ok(()),
            Kind::Address => Err(SettingError::NotAnAddress { name, value }),
            Kind::Text => Ok(()),
        }
    }
}

/// The longest value that is looked at: what is kept is bounded, and so is what a refusal repeats.
const VALUE_BYTES_MAX: usize = 4096;

/// The longest name that is compared with those that there are.
const NAME_BYTES_MAX: usize = 256;

/// The words of a list, as Kafka reads it: blanks around the commas do not count.
fn words(written: &str) -> impl Iterator<Item = &str> {
    written.split(',').map(str::trim)
}

fn is_list_of(known: &[&str], written: &str) -> bool {
    let all_known = words(written).all(|word| known.contains(&word));
    all_known && known.iter().all(|one| words(written).filter(|word| word == one).count() <= 1)
}

fn bounds(min: i64, max: i64) -> String {
    match min == max {
        true => format!("can only be {min}"),
        false => format!("must be between {min} and {max}"),
    }
}

fn check_number(name: &'static str, written: &str, min: i64, max: i64) -> Result<(), SettingError> {
    let value = written.to_owned();
    match written.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(()),
        Ok(_) => Err(SettingError::OutOfRange { name, value, min, max }),
        Err(_) => Err(SettingError::NotANumber { name, value }),
    }
}

/// Millionths of one in a decimal number from 0 to 1.
fn ppm(written: &str) -> Option<u32> {
    let ratio = written.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))?;
    Some((ratio * 1e6).round() as u32)
}

/// Host and port of `HOST:PORT`, `[IPV6]:PORT` or Kafka's `PLAINTEXT://HOST:PORT`.
pub(crate) fn parse_address(written: &str) -> Option<(String, u16)> {
    let plain = written.strip_prefix("PLAINTEXT://").unwrap_or(written);
    let (host, port) = plain.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains([':', '/']) => return None,
        None => host,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Why a setting is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// No knob has this name.
    #[error("there is no setting '{name}'{}", suggestion.map(|close| format!("; did you mean '{close}'?")).unwrap_or_default())]
    Unknown {
        /// What was written.
        name: String,
        /// A knob with a similar name.
        suggestion: Option<&'static str>,
    },
    /// Kafka has it; this version does not act on it, and does not pretend to.
    #[error("'{name}' is not served by this version of Millstream: {reason}")]
    NotServed {
        /// What was written.
        name: String,
        /// What happens instead.
        reason: &'static str,
    },
    /// Set while the broker runs, which would have no effect.
    #[error(
        "'{name}' is read when the broker starts; set it in its file, environment or command line, and restart it"
    )]
    AtStartOnly {
        /// The knob.
        name: &'static str,
    },
    /// Appended to or subtracted from, and not a list.
    #[error("'{name}' is not a list: it can be set or deleted, not appended to or subtracted from")]
    NoList {
        /// The knob.
        name: &'static str,
    },
    /// A topic's name for a knob was used for the broker, or the other way round.
    #[error("'{name}' cannot be set here; the name here is '{instead}'")]
    OtherScope {
        /// What was written.
        name: String,
        /// What to write.
        instead: &'static str,
    },
    /// A broker's knob was used for a topic.
    #[error("'{name}' is a setting of the broker, not of a topic")]
    BrokerOnly {
        /// What was written.
        name: &'static str,
    },
    /// Beyond what another setting allows. Begins as Kafka says it.
    #[error("{name} must be {side} {bound}, {limit}; it is {value}")]
    BeyondBound {
        /// The knob, by the name under which it was set.
        name: &'static str,
        /// On which side of the bound it has to be.
        side: Side,
        /// The setting that bounds it.
        bound: &'static str,
        /// What that is set to.
        limit: i64,
        /// What was written.
        value: i64,
    },
    /// Longer than any value has to be.
    #[error("the value of '{name}' is {bytes} bytes long; {VALUE_BYTES_MAX} are allowed")]
    TooLong {
        /// The knob.
        name: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Neither `true` nor `false`.
    #[error("'{name}' is '{value}'; it is either true or false")]
    NotBoolean {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// Not a whole number.
    #[error("'{name}' is '{value}', which is not a whole number")]
    NotANumber {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// Outside the bounds.
    #[error("'{name}' is {value}; it {}", bounds(*min, *max))]
    OutOfRange {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// Not a number from 0 to 1.
    #[error("'{name}' is '{value}'; it must be a number between 0 and 1")]
    NotARatio {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// Records would have to be compacted before they may be.
    #[error("'min.compaction.lag.ms' is {min}; it must not be more than 'max.compaction.lag.ms', {max}")]
    LagsCross {
        /// The least lag.
        min: u128,
        /// The greatest lag.
        max: u128,
    },
    /// None of the words.
    #[error("'{name}' is '{value}'; it is one of: {choices}")]
    NotAChoice {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
        /// The words.
        choices: String,
    },
    /// Not a list of the words.
    #[error("'{name}' is '{value}'; it is one or more of these, each once, with commas between: {choices}")]
    NotAList {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
        /// The words.
        choices: String,
    },
    /// Kafka's other spelling of a setting, in another unit.
    #[error("'{name}' is not read here; write {instead}={millis}")]
    OtherUnit {
        /// What was written.
        name: String,
        /// The setting that is read.
        instead: &'static str,
        /// The same value for it.
        millis: i64,
    },
    /// Not HOST:PORT.
    #[error("'{name}' is '{value}', which is not HOST:PORT")]
    NotAnAddress {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// Two settings for one thing.
    #[error("'{one}' and '{other}' are both set; set only one of them")]
    TwoForOne {
        /// One.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A path is empty, or named twice.
    #[error("'{name}' is '{value}'; it is a list of different paths with commas between them")]
    NotAListOfPaths {
        /// The knob.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// One request could never be read.
    #[error(
        "'queued.max.request.bytes' is {budget}; it must be at least 'socket.request.max.bytes', {frame}"
    )]
    BudgetBelowFrame {
        /// The budget of all requests.
        budget: usize,
        /// The largest request.
        frame: usize,
    },
    /// A batch that topics allow could never arrive.
    #[error(
        "'socket.request.max.bytes' is {frame}; it must exceed 'message.max.bytes', {batch}, by at least {} for the request around it",
        broker::REQUEST_AROUND_BATCH_BYTES
    )]
    FrameBelowBatch {
        /// The largest request.
        frame: usize,
        /// The largest batch.
        batch: usize,
    },
}

/// On which side of another setting one has to be, in Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Not less.
    AtLeast,
    /// Not more.
    AtMost,
    /// More.
    Above,
}

impl Side {
    fn holds(self, value: i64, limit: i64) -> bool {
        match self {
            Self::AtLeast => value >= limit,
            Self::AtMost => value <= limit,
            Self::Above => value > limit,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AtLeast => "greater than or equal to",
            Self::AtMost => "less than or equal to",
            Self::Above => "greater than",
        })
    }
}

/// Values that were set and checked, by the broker's names.
pub(crate) type Written = BTreeMap<&'static str, String>;

/// The knob that the broker calls `name`.
///
/// # Errors
/// There is none; the error says what was meant or what to write instead.
pub(crate) fn broker_knob(name: &str) -> Result<&'static Knob, SettingError> {
    if let Some(knob) = REGISTRY.iter().find(|knob| knob.name == name) {
        return Ok(knob);
    }
    let is_meant = |knob: &&Knob| knob.topic_name() == Some(name) || knob.group_name() == Some(name);
    if let Some(knob) = REGISTRY.iter().find(is_meant) {
        return Err(SettingError::OtherScope { name: name.to_owned(), instead: knob.name });
    }
    Err(unknown(name, REGISTRY.iter().map(|knob| knob.name)))
}

/// The knob that a topic calls `name`.
///
/// # Errors
/// There is none; the error says what was meant or what to write instead.
pub(crate) fn topic_knob(name: &str) -> Result<&'static Knob, SettingError> {
    if let Some(knob) = REGISTRY.iter().find(|knob| knob.topic_name() == Some(name)) {
        return Ok(knob);
    }
    match REGISTRY.iter().find(|knob| knob.name == name) {
        Some(Knob { scope: Scope::Topic(instead), .. }) => {
            Err(SettingError::OtherScope { name: name.to_owned(), instead })
        }
        Some(knob) => Err(SettingError::BrokerOnly { name: knob.name }),
        None => Err(unknown(name, REGISTRY.iter().filter_map(Knob::topic_name))),
    }
}

/// The knob that a group calls `name`.
///
/// # Errors
/// There is none; the error says what was meant or what to write instead.
pub(crate) fn group_knob(name: &str) -> Result<&'static Knob, SettingError> {
    if let Some(knob) = REGISTRY.iter().find(|knob| knob.group_name() == Some(name)) {
        return Ok(knob);
    }
    match REGISTRY.iter().find(|knob| knob.name == name) {
        Some(Knob { scope: Scope::Group(instead), .. }) => {
            Err(SettingError::OtherScope { name: name.to_owned(), instead })
        }
        Some(_) | None if name.starts_with("share.") => Err(not_served(name, "there are no share groups")),
        Some(_) | None if name.starts_with("streams.") => {
            Err(not_served(name, "there are no streams groups"))
        }
        Some(_) | None => Err(unknown(name, REGISTRY.iter().filter_map(Knob::group_name))),
    }
}

/// Checks a broker's setting on its own, without its relations to others.
///
/// # Errors
/// There is no such setting, or its value is outside the bounds.
pub fn check(name: &str, value: &str) -> Result<(), SettingError> {
    knob_for(name, value)?.check(value)
}

/// Kafka's settings that say in other units what one of ours says in milliseconds. It ranks them above one
/// another; here there is one name, and whoever writes another is told what to write.
const OTHER_UNITS: [(&str, &str, i64); 3] = [
    ("log.retention.hours", "log.retention.ms", 3_600_000),
    ("log.retention.minutes", "log.retention.ms", 60_000),
    ("log.roll.hours", "log.roll.ms", 3_600_000),
];

/// The knob that the broker calls `name`, if `value` needs no translation for it.
fn knob_for(name: &str, value: &str) -> Result<&'static Knob, SettingError> {
    let Some((_, instead, unit)) = OTHER_UNITS.iter().find(|(other, ..)| *other == name) else {
        return broker_knob(name);
    };
    let number = value.parse::<i64>().ok().filter(|number| *number >= -1);
    let millis = number.map_or(-1, |number| if number < 0 { -1 } else { number.saturating_mul(*unit) });
    Err(SettingError::OtherUnit { name: name.to_owned(), instead, millis })
}

/// Notes a broker's setting, checked on its own.
pub(crate) fn write(written: &mut Written, name: &str, value: &str) -> Result<(), SettingError> {
    let knob = knob_for(name, value)?;
    knob.check(value)?;
    written.insert(knob.name, value.to_owned());
    Ok(())
}

/// Notes a broker's setting that can be set while it runs, checked on its own.
pub(crate) fn write_live(written: &mut Written, name: &str, value: &str) -> Result<(), SettingError> {
    let knob = knob_for(name, value)?;
    match knob.effect {
        Effect::AtOnce => write(written, name, value),
        Effect::AtStart => Err(SettingError::AtStartOnly { name: knob.name }),
    }
}

/// A value that is in force: what was written, else the default.
fn in_force<'a>(written: &'a Written, name: &'static str) -> &'a str {
    let knob = broker_knob(name).expect("settings are read by names of the registry");
    written.get(name).map_or(knob.default, String::as_str)
}

fn number(written: &Written, name: &'static str) -> i64 {
    in_force(written, name).parse().expect("numbers are checked when they are written")
}

/// For knobs whose least value is not negative.
fn size(written: &Written, name: &'static str) -> usize {
    usize::try_from(number(written, name)).expect("sizes are bounded below by zero")
}

fn flag(written: &Written, name: &'static str) -> bool {
    in_force(written, name).parse().expect("flags are checked when they are written")
}

/// What is repeated of a name.
fn shortened(name: &str) -> String {
    match name.len() > NAME_BYTES_MAX {
        true => format!("{}...", name.chars().take(NAME_BYTES_MAX).collect::<String>()),
        false => name.to_owned(),
    }
}

fn not_served(name: &str, reason: &'static str) -> SettingError {
    SettingError::NotServed { name: shortened(name), reason }
}

fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> SettingError {
    if name.len() > NAME_BYTES_MAX {
        return SettingError::Unknown { name: shortened(name), suggestion: None };
    }
    let found = registry::NOT_SERVED.iter().find(|(names, _)| names.contains(&name));
    if let Some((_, reason)) = found {
        return not_served(name, reason);
    }
    let closest = known.map(|other| (distance(name, other), other)).min();
    // Further away than this it is another word, not a slip.
    let suggestion = closest.filter(|(far, _)| *far <= 2 + name.len() / 4).map(|(_, other)| other);
    SettingError::Unknown { name: name.to_owned(), suggestion }
}

/// Letters to change, add or drop to get from one name to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests;
