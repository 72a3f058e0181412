//! Topics and partitions as options name them: `orders`, `orders:3`, `orders:0,1,2`.

use std::collections::BTreeSet;
use std::fmt;

/// A topic, or some of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) topic: String,
    /// Empty for all.
    pub(super) partitions: BTreeSet<i32>,
}

impl Places {
    /// Reads the option.
    ///
    /// # Errors
    /// Says what would have been accepted.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let help = "give TOPIC, TOPIC:P or TOPIC:P,P with partitions as numbers from 0";
        let (topic, numbers) = match text.split_once(':') {
            None => (text, None),
            Some((topic, numbers)) => (topic, Some(numbers)),
        };
        if topic.is_empty() {
            return Err(help.to_owned());
        }
        let numbers = numbers.into_iter().flat_map(|numbers| numbers.split(','));
        let numbers = numbers.map(|number| match number.trim().parse::<i32>() {
            Ok(number @ 0..) => Ok(number),
            _ => Err(format!("{number:?} is no partition; {help}")),
        });
        Ok(Self { topic: topic.to_owned(), partitions: numbers.collect::<Result<_, _>>()? })
    }

    pub(super) fn contains(&self, topic: &str, partition: i32) -> bool {
        self.topic == topic && (self.partitions.is_empty() || self.partitions.contains(&partition))
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)?;
        for (at, partition) in self.partitions.iter().enumerate() {
            write!(f, "{}{partition}", if at == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_alone_means_all_its_partitions() {
        let all = Places::parse("orders").unwrap();
        assert!(all.contains("orders", 7) && !all.contains("order", 7));
        let some = Places::parse("orders:3, 1").unwrap();
        assert!(some.contains("orders", 1) && !some.contains("orders", 2));
        assert_eq!(some.to_string(), "orders:1,3");
    }

    #[test]
    fn what_is_no_partition_is_refused_with_what_would_do() {
        for wrong in ["", ":1", "orders:", "orders:-1", "orders:a", "orders:1,,2"] {
            assert!(Places::parse(wrong).unwrap_err().contains("TOPIC:P"), "{wrong}");
        }
    }
}
