//! Changes to what is written in one place, as administrators ask for them while the broker runs.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::{
    Effect, Kind, Knob, Layer, Layers, SettingError, Written, group_knob, knob_for, topic_knob, words,
};

/// What becomes of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    Set(String),
    /// Its default holds again, or what is written in a weaker place.
    Delete,
    /// These words are added to a list that does not have them.
    Append(String),
    /// These words are taken out of a list.
    Subtract(String),
}

/// What becomes of the settings that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    None,
}

/// Changes to what is written in one place.
#[derive(Debug)]
pub(crate) struct Edits {
    pub(crate) kept: Kept,
    /// By the names of the place.
    pub(crate) each: Vec<(String, Edit)>,
}

impl Edits {
    /// What a topic sets for itself afterwards.
    ///
    /// # Errors
    /// A name or an edit makes no sense. Values are checked when they are taken over.
    pub(crate) fn of_topic(
        &self,
        written: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, SettingError> {
        self.apply(written, &|name, _| {
            let knob = topic_knob(name)?;
            Ok((knob.topic_name().unwrap_or(knob.name), knob))
        })
    }

    /// What a group sets for itself afterwards.
    ///
    /// # Errors
    /// A name or an edit makes no sense. Values are checked when they are taken over.
    pub(crate) fn of_group(
        &self,
        written: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, SettingError> {
        self.apply(written, &|name, _| {
            let knob = group_knob(name)?;
            Ok((knob.group_name().unwrap_or(knob.name), knob))
        })
    }

    /// What is written in one of the broker's places afterwards.
    ///
    /// # Errors
    /// A name, a value or an edit makes no sense, or the setting is read at start only.
    pub(crate) fn of_broker(&self, layer: Layer, layers: &Layers) -> Result<Written, SettingError> {
        let find = |name: &str, value: &str| {
            let knob = knob_for(name, value)?;
            match knob.effect {
                Effect::AtOnce => Ok((knob.name, knob)),
                Effect::AtStart => Err(SettingError::AtStartOnly { name: knob.name }),
            }
        };
        let written = self.apply(layers.written(layer), &find)?;
        for (name, value) in &written {
            knob_for(name, value)?.check(value)?;
        }
        Ok(written)
    }

    fn apply<K: Ord + Clone + Borrow<str> + From<&'static str>>(
        &self,
        written: &BTreeMap<K, String>,
        find: &dyn Fn(&str, &str) -> Result<(&'static str, &'static Knob), SettingError>,
    ) -> Result<BTreeMap<K, String>, SettingError> {
        let mut next = match self.kept {
            Kept::All => written.clone(),
            Kept::None => BTreeMap::new(),
        };
        for (name, edit) in &self.each {
            // As in Kafka from what is written in this place, else from the default, whatever weaker places say.
            let listed = |value: &str| {
                let (name, knob) = find(name, value)?;
                match knob.kind {
                    Kind::List(_) | Kind::Subset(_) => {
                        Ok((name, next.get(name).map_or(knob.default, String::as_str).to_owned()))
                    }
                    _ => Err(SettingError::NoList { name }),
                }
            };
            let (name, value) = match edit {
                Edit::Set(value) => (find(name, value)?.0, value.clone()),
                Edit::Delete => {
                    // As in Kafka, also one that is not there.
                    next.remove(name.as_str());
                    continue;
                }
                Edit::Append(more) => {
                    let (name, list) = listed(more)?;
                    (name, appended(&list, more))
                }
                Edit::Subtract(less) => {
                    let (name, list) = listed(less)?;
                    (name, subtracted(&list, less))
                }
            };
            next.insert(K::from(name), value);
        }
        Ok(next)
    }
}

fn appended(list: &str, more: &str) -> String {
    let mut all: Vec<&str> = words(list).filter(|word| !word.is_empty()).collect();
    for word in words(more) {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    all.join(",")
}

fn subtracted(list: &str, less: &str) -> String {
    let stays = |word: &&str| !words(less).any(|gone| gone == *word);
    words(list).filter(stays).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(written: &[(&str, &str)], kept: Kept, edits: &[(&str, Edit)]) -> Result<String, SettingError> {
        let written = written.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let each = edits.iter().map(|(name, edit)| ((*name).to_owned(), edit.clone())).collect();
        let next = Edits { kept, each }.of_topic(&written)?;
        Ok(next.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    fn set(value: &str) -> Edit {
        Edit::Set(value.to_owned())
    }

    #[test]
    fn edits_change_what_they_name_and_a_replacement_forgets_the_rest() {
        let before = [("retention.ms", "5"), ("segment.ms", "7")];
        let edits = [("retention.ms", set("6")), ("flush.ms", set("1"))];
        assert_eq!(edited(&before, Kept::All, &edits).unwrap(), "flush.ms=1 retention.ms=6 segment.ms=7");
        assert_eq!(edited(&before, Kept::None, &edits).unwrap(), "flush.ms=1 retention.ms=6");
        let gone = [("retention.ms", Edit::Delete), ("no.such", Edit::Delete)];
        assert_eq!(edited(&before, Kept::All, &gone).unwrap(), "segment.ms=7");
    }

    #[test]
    fn lists_are_made_longer_and_shorter_from_what_holds_by_default() {
        let append = |list: &str| ("cleanup.policy", Edit::Append(list.to_owned()));
        let subtract = |list: &str| ("cleanup.policy", Edit::Subtract(list.to_owned()));
        let after = |written: &[(&str, &str)], edit| edited(written, Kept::All, &[edit]).unwrap();
        assert_eq!(after(&[], append("compact")), "cleanup.policy=delete,compact");
        assert_eq!(after(&[], append("delete")), "cleanup.policy=delete");
        let both = [("cleanup.policy", "compact, delete")];
        assert_eq!(after(&both, append("compact,delete")), "cleanup.policy=compact,delete");
        assert_eq!(after(&both, subtract("delete")), "cleanup.policy=compact");
        assert_eq!(after(&both, subtract("other")), "cleanup.policy=compact,delete");
        assert_eq!(after(&[], subtract("delete")), "cleanup.policy=");
        assert_eq!(after(&[("cleanup.policy", "")], subtract("delete")), "cleanup.policy=");
        assert_eq!(after(&[("cleanup.policy", "")], append("compact")), "cleanup.policy=compact");
        let refused = edited(&[], Kept::All, &[("retention.ms", Edit::Append("5".into()))]).unwrap_err();
        assert_eq!(refused, SettingError::NoList { name: "retention.ms" });
    }

    #[test]
    fn a_list_grows_from_the_default_and_not_from_what_a_weaker_place_says() {
        let written = |policy: &str| Written::from([("log.cleanup.policy", policy.to_owned())]);
        let layers = Layers {
            at_start: written("compact"),
            all_brokers: written("compact"),
            this_broker: Written::new(),
        };
        let each = vec![("log.cleanup.policy".to_owned(), Edit::Append("compact".to_owned()))];
        let next = Edits { kept: Kept::All, each }.of_broker(Layer::ThisBroker, &layers).unwrap();
        assert_eq!(next, written("delete,compact"));
    }

    #[test]
    fn what_is_read_at_start_is_not_set_while_the_broker_runs() {
        let edits =
            |name: &str, value: &str| Edits { kept: Kept::All, each: vec![(name.into(), set(value))] };
        let edit = |name, value| edits(name, value).of_broker(Layer::ThisBroker, &Layers::default());
        assert_eq!(edit("num.partitions", "3").unwrap()["num.partitions"], "3");
        let refused = edit("num.network.threads", "3").unwrap_err().to_string();
        assert!(refused.contains("read when the broker starts"), "{refused}");
        assert!(matches!(edit("num.partitions", "0"), Err(SettingError::OutOfRange { .. })));
        assert!(matches!(edit("num.partition", "3"), Err(SettingError::Unknown { .. })));
        assert!(matches!(edit("log.retention.hours", "3"), Err(SettingError::OtherUnit { .. })));
    }
}
