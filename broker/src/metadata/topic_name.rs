//! Topic names: Kafka's rule, checked once, where a name enters.

/// Longest legal topic name, in bytes.
const NAME_BYTES_MAX: usize = 249;

/// Where the group coordinator keeps what it knows.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Where the transaction coordinator keeps what it knows.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";

/// Whether the broker itself makes the topic of this name and writes to it; clients may only read it.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE)
}

/// Why a name is refused; the text goes to the client.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TopicNameError {
    #[error("a topic name cannot be empty")]
    Empty,
    #[error("a topic cannot be called '.' or '..'")]
    Dots,
    #[error("the topic name is {length} characters long; {NAME_BYTES_MAX} are allowed")]
    TooLong { length: usize },
    #[error("topic name '{name}' contains {found:?}; letters a-z A-Z, digits, '.', '_' and '-' are allowed")]
    Character { name: String, found: char },
}

/// Checks a name for a new topic.
pub(crate) fn check(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(TopicNameError::TooLong { length: name.len() });
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(found) => Err(TopicNameError::Character { name: name.to_owned(), found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_names_pass_and_others_are_told_why() {
        assert_eq!(check("orders.v1_eu-west"), Ok(()));
        assert_eq!(check(&"a".repeat(249)), Ok(()));
        assert_eq!(check(&"a".repeat(250)), Err(TopicNameError::TooLong { length: 250 }));
        assert_eq!(check(""), Err(TopicNameError::Empty));
        assert_eq!(check(".."), Err(TopicNameError::Dots));
        let found = |name: &str, found| Err(TopicNameError::Character { name: name.into(), found });
        assert_eq!(check("a/b"), found("a/b", '/'));
        assert_eq!(check("größe"), found("größe", 'ö'));
    }
}
