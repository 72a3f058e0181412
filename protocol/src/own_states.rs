//! What the numbers in Millstream's own messages mean: the states of a partition that CompactLogs and
//! DescribeStorage tell.

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $code:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// The number in messages.
            #[must_use]
            pub const fn code(self) -> i8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The state with this number; `None` if a newer broker has more of them.
            #[must_use]
            pub const fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

states! {
    /// What a partition's compaction is doing.
    CompactionState {
        /// Nothing.
        Idle = 0,
        /// It was asked for and has not begun.
        Waiting = 1,
        /// It runs.
        Running = 2,
        /// The last one that was asked for failed; the message says why.
        Failed = 3,
    }
}

states! {
    /// How a partition's storage is.
    StorageState {
        /// It takes writes.
        Ok = 0,
        /// Its log is being recovered after a start.
        Recovering = 1,
        /// A write or flush failed: it is read from, and takes writes again once it is reopened.
        ReadOnly = 2,
        /// Its log cannot be opened.
        Unavailable = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_states() {
        for code in i8::MIN..=i8::MAX {
            assert!(CompactionState::from_code(code).is_none_or(|state| state.code() == code));
            assert!(StorageState::from_code(code).is_none_or(|state| state.code() == code));
        }
        assert_eq!(StorageState::from_code(3), Some(StorageState::Unavailable));
    }
}
