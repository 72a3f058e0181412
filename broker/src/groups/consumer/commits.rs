//! Who may commit and fetch offsets of a consumer group, and under which epoch.

use millstream_protocol::{ErrorCode, Uuid};

use super::ConsumerGroup;
use super::member::Member;
use crate::groups::group::{Committer, Fetcher};

/// From this version of OffsetCommit on a member of the new protocol can be told that its epoch is stale.
const KNOWS_STALE_EPOCHS: i16 = 9;

impl ConsumerGroup {
    /// Whether `by` may commit at all.
    pub(crate) fn check_commit(&self, by: &Committer) -> Result<(), ErrorCode> {
        // An admin, or a consumer without a group; while there are members nobody else may.
        if by.generation_or_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(by.member_id.as_str()).ok_or(ErrorCode::UnknownMemberId)?;
        if member.classic().is_none() && by.version < KNOWS_STALE_EPOCHS {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match by.generation_or_epoch > member.standing.epoch {
            true => Err(stale(member)),
            false => Ok(()),
        }
    }

    /// Whether `by` may commit inside a transaction at all. Whoever does not say who it is may: clients of before KIP-447
    /// cannot.
    pub(crate) fn check_transactional_commit(&self, by: &Committer) -> Result<(), ErrorCode> {
        match by.is_member() {
            true => self.check_commit(by),
            false => Ok(()),
        }
    }

    /// Whether `by`, who may commit, may do so for this partition: under its present epoch for any; under an earlier
    /// one if the partition was its own then and is still (KIP-1251), so that a commit that crosses a rebalance is not
    /// lost, and a zombie's is.
    pub(crate) fn check_commit_of(
        &self,
        by: &Committer,
        topic: Uuid,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let Some(member) = self.members.get(by.member_id.as_str()) else { return Ok(()) };
        let standing = &member.standing;
        if by.generation_or_epoch == standing.epoch {
            return Ok(());
        }
        let given =
            standing.held.epoch(topic, partition).or_else(|| standing.revoking.epoch(topic, partition));
        match given {
            Some(given) if given <= by.generation_or_epoch => Ok(()),
            Some(_) | None => Err(stale(member)),
        }
    }

    /// Whether `by` may ask for offsets.
    pub(crate) fn check_fetch(&self, by: &Fetcher) -> Result<(), ErrorCode> {
        // An admin, or a client of before this protocol.
        if by.member_id.is_none() && by.member_epoch < 0 {
            return Ok(());
        }
        let id = by.member_id.as_deref().unwrap_or_default();
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        match by.member_epoch == member.standing.epoch {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }
}

/// Each protocol has its own word for it.
fn stale(member: &Member) -> ErrorCode {
    match member.classic() {
        Some(_) => ErrorCode::IllegalGeneration,
        None => ErrorCode::StaleMemberEpoch,
    }
}
