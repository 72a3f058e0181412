//! Names of the files in a partition's folder.

use std::fmt;

use crate::ids::Offset;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Log,
    Index,
    TimeIndex,
    /// What was aborted.
    TxnIndex,
    Snapshot,
    /// Has no content: its name says where the log starts.
    Start,
    /// Has no content: compaction may have left gaps below the offset in its name.
    Gaps,
}

impl FileKind {
    const ALL: [Self; 7] =
        [Self::Log, Self::Index, Self::TimeIndex, Self::TxnIndex, Self::Snapshot, Self::Start, Self::Gaps];

    /// What is kept beside a segment's batches and can be made anew from them.
    pub(crate) const INDEXES: [Self; 3] = [Self::Index, Self::TimeIndex, Self::TxnIndex];

    fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
            Self::TimeIndex => "timeindex",
            Self::TxnIndex => "txnindex",
            Self::Snapshot => "snapshot",
            Self::Start => "start",
            Self::Gaps => "gaps",
        }
    }
}

/// No log comes so far; a name beyond it is not ours, and offsets that are counted on from it fit.
const BASE_MAX: i64 = 1 << 62;

/// Twenty digits of an offset, and what the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) base: Offset,
    pub(crate) kind: FileKind,
}

impl FileName {
    /// Takes a name apart; `None` if it is none of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (digits, extension) = name.split_once('.')?;
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kind = FileKind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
        let base = digits.parse().ok().filter(|base| *base <= BASE_MAX)?;
        Some(Self { base: Offset::new(base), kind })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}.{}", self.base.get(), self.kind.extension())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_twenty_digits_and_nothing_else_is_ours() {
        let name = FileName { base: Offset::new(1337), kind: FileKind::TimeIndex };
        assert_eq!(name.to_string(), "00000000000000001337.timeindex");
        assert_eq!(FileName::parse("00000000000000001337.timeindex"), Some(name));
        for foreign in [
            "1337.log",
            "00000000000000001337",
            "0000000000000000133x.log",
            "00000000000000001337.log.torn",
            "lost+found",
        ] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
        assert_eq!(FileName::parse("99999999999999999999.log"), None, "beyond 63 bits");
    }
}
