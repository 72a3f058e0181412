//! What a wish means: regular expressions, and the topics that names and expressions stand for.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::messages::{ConsumerGroupMemberMetadataValue, ConsumerGroupRegularExpressionValue};
use millstream_protocol::{KStr, Uuid};
use regex::{Regex, RegexBuilder};

use super::member::regex_of;
use crate::groups::topic_view::{self, TopicView};

/// Memory that one compiled expression may take. Expressions that name topics need a hundredth of it.
const COMPILED_MAX: usize = 1 << 18;
/// How deep groups of an expression may nest.
const NESTING_MAX: u32 = 100;

/// Why an expression cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the regular expression cannot be used: {0}; it must be RE2 syntax, as Kafka takes it")]
pub(crate) struct BadRegex(#[from] regex::Error);

/// Compiles an expression that has to match a whole name, as in Kafka.
///
/// The engine needs linear time, as RE2 does, so a client's expression can be run on every name. The syntax is
/// RE2's, but for `\Q...\E`, which is turned into what it stands for, and `\C`, which is refused.
///
/// # Errors
/// It is no expression, or takes too much memory.
pub(crate) fn compile(expression: &str) -> Result<Regex, BadRegex> {
    // It would take a hundred times its length to find out.
    if expression.len() > COMPILED_MAX {
        return Err(regex::Error::CompiledTooBig(COMPILED_MAX).into());
    }
    let whole = format!(r"\A(?:{})\z", without_quotes(expression));
    let compiled = RegexBuilder::new(&whole).size_limit(COMPILED_MAX).nest_limit(NESTING_MAX).build()?;
    Ok(compiled)
}

/// Writes out `\Q...\E`, which takes everything literally up to its end or that of the expression.
fn without_quotes(expression: &str) -> String {
    let mut written = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(at) = start_of_quote(rest) {
        written.push_str(&rest[..at]);
        let quoted = &rest[at + 2..];
        let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        written.push_str(&regex::escape(literal));
        rest = after;
    }
    written.push_str(rest);
    written
}

/// Where `\Q` stands that is no `\\Q`.
fn start_of_quote(expression: &str) -> Option<usize> {
    let mut bytes = expression.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\'
            && let Some((_, escaped)) = bytes.next()
            && escaped == b'Q'
        {
            return Some(at);
        }
    }
    None
}

/// The topics that an expression stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(super) topics: BTreeSet<KStr>,
    version: i64,
    resolved_at_ms: i64,
}

impl Resolved {
    /// Tries every topic that there is; `.*` means __consumer_offsets too, as in Kafka. An expression that is stored was
    /// checked when it came; should it not compile with a newer engine, it stands for nothing.
    pub(super) fn resolve(expression: &str, topics: &TopicView, wall_ms: i64) -> Self {
        let names = match compile(expression) {
            Ok(regex) => topics.names().filter(|name| regex.is_match(name)).cloned().collect(),
            Err(_) => BTreeSet::new(),
        };
        // Kafka's is the offset of its metadata, which only grows. Nothing is decided by it here.
        Self { topics: names, version: wall_ms, resolved_at_ms: wall_ms }
    }

    pub(super) fn value(&self) -> ConsumerGroupRegularExpressionValue {
        ConsumerGroupRegularExpressionValue {
            topics: self.topics.iter().cloned().collect(),
            version: self.version,
            timestamp: self.resolved_at_ms,
        }
    }

    pub(super) fn of(value: &ConsumerGroupRegularExpressionValue) -> Self {
        Self {
            topics: value.topics.iter().map(KStr::detach).collect(),
            version: value.version,
            resolved_at_ms: value.timestamp,
        }
    }
}

/// The expressions of a group.
pub(super) type Regexes = BTreeMap<KStr, Resolved>;

/// The names that a wish stands for.
pub(super) fn names<'a>(
    wish: &'a ConsumerGroupMemberMetadataValue,
    regexes: &'a Regexes,
) -> impl Iterator<Item = &'a KStr> {
    let resolved = regex_of(wish).and_then(|regex| regexes.get(regex.as_str()));
    wish.subscribed_topic_names.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics))
}

/// The topics that a wish stands for, as far as they exist.
pub(super) fn topic_ids(
    wish: &ConsumerGroupMemberMetadataValue,
    regexes: &Regexes,
    topics: &TopicView,
) -> BTreeSet<Uuid> {
    names(wish, regexes).filter_map(|name| Some(topics.named(name)?.id)).collect()
}

/// A number that differs when other topics are meant, or one of them was made anew or has more partitions. It is stored
/// with the group, so that a change while the broker was down is noticed.
pub(super) fn fingerprint<'a>(names: impl Iterator<Item = &'a KStr>, topics: &TopicView) -> i64 {
    let wanted: BTreeSet<&KStr> = names.collect();
    let known = wanted.into_iter().filter_map(|name| Some((name, topics.named(name)?)));
    topic_view::fingerprint(known).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, name: &str) -> bool {
        compile(expression).expect("a good expression").is_match(name)
    }

    #[test]
    fn an_expression_must_match_the_whole_name() {
        assert!(matches("orders-.*", "orders-eu"));
        assert!(!matches("orders", "orders-eu"));
        assert!(!matches("eu", "orders-eu"));
        assert!(matches("a|b", "b"));
        assert!(!matches("a|b", "ab"));
        assert!(matches("^orders-(eu|us)$", "orders-us"));
    }

    #[test]
    fn quoted_text_is_literal() {
        assert!(matches(r"\Qa.b\E.*", "a.b-1"));
        assert!(!matches(r"\Qa.b\E.*", "axb-1"));
        assert!(matches(r"x\Qa.b", "xa.b"));
        assert!(compile(r"\\Q(").is_err());
    }

    #[test]
    fn what_is_no_expression_or_takes_too_much_is_refused() {
        for expression in [
            "(",
            "a{1000000}",
            "(?=x)",
            &"(".repeat(5000),
            &r"\w{500}".repeat(50),
            &"a".repeat(COMPILED_MAX + 1),
        ] {
            assert!(compile(expression).is_err(), "{}", &expression[..expression.len().min(20)]);
        }
    }
}
