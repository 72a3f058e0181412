//! Numbers that must not be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The place of a record in its partition. Ranges of offsets are half-open.
    Offset(i64)
}
number! {
    /// Counts the leaders of a partition; it rises whenever a suffix of the log may have been lost.
    LeaderEpoch(i32)
}
number! {
    /// Who writes, as `InitProducerId` handed it out.
    ProducerId(i64)
}

impl LeaderEpoch {
    /// The epoch behind this one.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Offset {
    /// The offset `count` records further on.
    #[must_use]
    pub(crate) const fn advance(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}
