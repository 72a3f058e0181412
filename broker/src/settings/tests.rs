//! Claims about the registry and what is read from it.

use std::time::Duration;

use millstream_log::CleanupPolicy;

use super::*;

#[test]
fn every_default_is_legal_and_the_table_is_in_order() {
    for knob in REGISTRY {
        assert_eq!(knob.check(knob.default), Ok(()), "{}", knob.name);
        assert!(knob.doc.ends_with('.'), "{}", knob.name);
    }
    assert!(REGISTRY.is_sorted_by(|a, b| a.name < b.name));
    assert!(BrokerSettings::new(Written::new()).is_ok());
}

#[test]
fn no_setting_is_both_served_and_not() {
    for (names, _) in registry::NOT_SERVED {
        for name in *names {
            let served = REGISTRY.iter().any(|knob| knob.name == *name || knob.topic_name() == Some(*name));
            assert!(!served, "{name}");
        }
    }
}

#[test]
fn an_unknown_name_gets_a_suggestion_only_if_one_is_close() {
    let unknown = |name: &str| broker_knob(name).unwrap_err().to_string();
    assert_eq!(
        unknown("num.partition"),
        "there is no setting 'num.partition'; did you mean 'num.partitions'?"
    );
    assert_eq!(unknown("zzz"), "there is no setting 'zzz'");
    let instead = topic_knob("log.segment.bytes").unwrap_err().to_string();
    assert_eq!(instead, "'log.segment.bytes' cannot be set here; the name here is 'segment.bytes'");
    assert_eq!(topic_knob("num.partitions"), Err(SettingError::BrokerOnly { name: "num.partitions" }));
    assert!(matches!(topic_knob("remote.storage.enable"), Err(SettingError::NotServed { .. })));
}

#[test]
fn values_are_held_to_their_bounds() {
    let mut written = Written::new();
    let mut set = |name: &str, value: &str| write(&mut written, name, value).map_err(|e| e.to_string());
    assert_eq!(set("num.partitions", "1"), Ok(()));
    assert_eq!(set("num.partitions", "10000"), Ok(()));
    let out = |v: &str| Err(format!("'num.partitions' is {v}; it must be between 1 and 10000"));
    assert_eq!(set("num.partitions", "0"), out("0"));
    assert_eq!(set("num.partitions", "10001"), out("10001"));
    assert!(set("num.partitions", "many").unwrap_err().contains("not a whole number"));
    assert!(set("auto.create.topics.enable", "yes").unwrap_err().contains("either true or false"));
    assert!(set("compression.type", "brotli").unwrap_err().contains("one of: producer, "));
    assert!(set("advertised.listeners", "host").unwrap_err().contains("not HOST:PORT"));
}

#[test]
fn a_list_holds_known_words_each_once() {
    let policy = broker_knob("log.cleanup.policy").unwrap();
    for right in ["", "delete", "compact", "compact,delete", "delete, compact"] {
        assert_eq!(policy.check(right), Ok(()), "{right}");
    }
    let assignors = broker_knob("group.consumer.assignors").unwrap();
    assert!(assignors.check("").is_err(), "one is needed");
    for wrong in ["none", "delete,delete", "compact,", "delete;compact"] {
        let refused = policy.check(wrong).unwrap_err().to_string();
        assert!(refused.contains("with commas between: compact, delete"), "{wrong}: {refused}");
    }
}

#[test]
fn other_units_are_refused_with_what_to_write() {
    let told = |name: &str, value: &str| check(name, value).unwrap_err().to_string();
    assert_eq!(
        told("log.retention.hours", "24"),
        "'log.retention.hours' is not read here; write log.retention.ms=86400000"
    );
    assert_eq!(
        told("log.retention.minutes", "-1"),
        "'log.retention.minutes' is not read here; write log.retention.ms=-1"
    );
    assert_eq!(told("log.roll.hours", "1"), "'log.roll.hours' is not read here; write log.roll.ms=3600000");
}

#[test]
fn retention_is_narrowed_to_what_the_log_needs() {
    let defaults = TopicSettings::new(&Written::new()).log_config();
    assert_eq!(defaults.retention_age, Some(std::time::Duration::from_hours(7 * 24)));
    assert_eq!((defaults.retention_bytes, defaults.cleanup), (None, CleanupPolicy::Delete));
    let with = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TopicSettings::new(&Written::new()).with_overrides(&pairs.collect()).map(|topic| topic.log_config())
    };
    let set =
        with(&[("retention.ms", "-1"), ("retention.bytes", "5"), ("cleanup.policy", "compact, delete")]);
    let set = set.unwrap();
    assert_eq!((set.retention_age, set.retention_bytes), (None, Some(5)));
    assert_eq!(set.cleanup, CleanupPolicy::CompactAndDelete);
    assert_eq!(with(&[("cleanup.policy", "compact")]).unwrap().cleanup, CleanupPolicy::Compact);
    assert_eq!(with(&[("cleanup.policy", "")]).unwrap().cleanup, CleanupPolicy::Keep);
    let refused = with(&[("retention.ms", "-2")]).unwrap_err().to_string();
    assert_eq!(refused, "'retention.ms' is -2; it must be between -1 and 9223372036854775807");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let with = |pairs: &[(&str, &str)]| {
        let mut written = Written::new();
        for (name, value) in pairs {
            write(&mut written, name, value).unwrap();
        }
        BrokerSettings::new(written)
    };
    assert!(with(&[("queued.max.request.bytes", "104857600")]).is_ok());
    let refused = with(&[("queued.max.request.bytes", "104857599")]).unwrap_err();
    assert!(matches!(refused, SettingError::BudgetBelowFrame { .. }), "{refused}");
    assert!(with(&[("message.max.bytes", "104856576")]).is_ok());
    let refused = with(&[("message.max.bytes", "104856577")]).unwrap_err();
    assert!(matches!(refused, SettingError::FrameBelowBatch { .. }), "{refused}");
}

#[test]
fn addresses_are_read_in_kafkas_form_too() {
    let is = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(parse_address("127.0.0.1:9092"), is("127.0.0.1", 9092));
    assert_eq!(parse_address("PLAINTEXT://broker.example:19092"), is("broker.example", 19092));
    assert_eq!(parse_address("[::1]:9092"), is("::1", 9092));
    for wrong in ["", "host", ":9092", "host:", "host:70000", "SSL://host:9092", "::1:9092"] {
        assert_eq!(parse_address(wrong), None, "{wrong}");
    }
}

#[test]
fn a_topic_overrides_the_broker_which_overrides_the_default() {
    let mut written = Written::new();
    write(&mut written, "message.max.bytes", "2000").unwrap();
    let defaults = TopicSettings::new(&written);
    assert_eq!(defaults.max_message_bytes, 2000);
    let overrides = [("max.message.bytes".to_owned(), "3000".to_owned())].into();
    let settings = defaults.with_overrides(&overrides).unwrap();
    assert_eq!(settings.max_message_bytes, 3000);
    let wrong = [("max.message.bytes".to_owned(), "-1".to_owned())].into();
    assert!(defaults.with_overrides(&wrong).is_err());
}

#[test]
fn compaction_is_set_for_a_topic_and_its_lags_do_not_cross() {
    let defaults = TopicSettings::new(&Written::new());
    let with = |pairs: &[(&str, &str)]| {
        let overrides = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        defaults.with_overrides(&overrides).map(|settings| settings.log_config())
    };
    let unset = defaults.log_config();
    assert_eq!((unset.min_dirty_ppm, unset.max_compaction_lag), (500_000, Duration::MAX));
    let set = with(&[
        ("min.cleanable.dirty.ratio", "0.05"),
        ("delete.retention.ms", "7"),
        ("min.compaction.lag.ms", "5"),
        ("max.compaction.lag.ms", "5"),
    ])
    .unwrap();
    assert_eq!((set.min_dirty_ppm, set.delete_retention), (50_000, Duration::from_millis(7)));
    assert_eq!(
        (set.min_compaction_lag, set.max_compaction_lag),
        (Duration::from_millis(5), Duration::from_millis(5))
    );
    for wrong in ["1.01", "-0.1", "half", "NaN", ""] {
        let refused = with(&[("min.cleanable.dirty.ratio", wrong)]).unwrap_err().to_string();
        assert!(refused.ends_with("must be a number between 0 and 1"), "{refused}");
    }
    let refused = with(&[("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")]).unwrap_err();
    assert_eq!(refused, SettingError::LagsCross { min: 6, max: 5 });
    let mut written = Written::new();
    write(&mut written, "log.cleaner.min.compaction.lag.ms", "6").unwrap();
    write(&mut written, "log.cleaner.max.compaction.lag.ms", "5").unwrap();
    assert!(matches!(BrokerSettings::new(written), Err(SettingError::LagsCross { .. })));
}
