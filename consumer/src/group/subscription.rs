//! Which topics a member wants: by name, or those whose name matches a pattern.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::{KStr, Uuid};
use regex::Regex;

/// What a member wants.
#[derive(Debug, Clone)]
pub(crate) enum Subscription {
    Names(BTreeSet<KStr>),
    Pattern(Pattern),
}

/// An expression that a whole name has to match.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: KStr,
    regex: Regex,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, regex::Error> {
        let regex = Regex::new(&format!("^(?:{text})$"))?;
        Ok(Self { text: KStr::from(text), regex })
    }

    /// As it was given.
    pub(crate) fn text(&self) -> &KStr {
        &self.text
    }

    /// The topics that match, but for those that belong to the brokers themselves.
    pub(super) fn matching(&self, view: &TopicView) -> BTreeSet<KStr> {
        let matching = |(name, seen): &(&KStr, &Seen)| !seen.is_internal && self.regex.is_match(name);
        view.0.iter().filter(matching).map(|(name, _)| name.clone()).collect()
    }
}

/// A topic, as far as groups care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
    pub(crate) is_internal: bool,
}

/// Topics that exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicView(pub(crate) BTreeMap<KStr, Seen>);

impl TopicView {
    /// How many partitions there are of those topics that exist.
    pub(super) fn sizes(&self, topics: &BTreeSet<KStr>) -> BTreeMap<KStr, i32> {
        let size = |name: &KStr| Some((name.clone(), self.0.get(name)?.partitions));
        topics.iter().filter_map(size).collect()
    }
}

/// Topics that a member has to know about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicsWanted {
    All,
    Named(BTreeSet<KStr>),
    Ids(BTreeSet<Uuid>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_nothing_of_the_brokers() {
        let seen = |is_internal| Seen { id: Uuid::nil(), partitions: 1, is_internal };
        let names = [("a1", false), ("a2", false), ("ba1", false), ("a1b", false), ("a9", true)];
        let view =
            TopicView(names.iter().map(|(name, internal)| (KStr::from(*name), seen(*internal))).collect());
        let matching = Pattern::new("a[0-9]|x").unwrap().matching(&view);
        assert_eq!(matching, [KStr::from("a1"), KStr::from("a2")].into());
        Pattern::new("a[").unwrap_err();
    }
}
