//! Under which epoch offsets may be committed and fetched.

use super::*;
use crate::groups::group::{Committer, Fetcher};

fn by(member: &str, epoch: i32) -> Committer {
    Committer { member_id: member.into(), instance_id: None, generation_or_epoch: epoch, version: 9 }
}

#[test]
fn a_commit_under_an_earlier_epoch_counts_only_for_what_was_held_then_and_is_still() {
    let mut bed = Bed::new(&[("a", 4)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    assert_eq!((one.epoch, two.epoch), (2, 2));
    let group = bed.group();
    assert_eq!(group.check_commit(&by("one", 2)), Ok(()));
    assert_eq!(group.check_commit(&by("one", 1)), Ok(()));
    assert_eq!(group.check_commit(&by("one", 3)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(group.check_commit(&by("nobody", 2)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(group.check_commit(&by("", -1)), Err(ErrorCode::UnknownMemberId));
    let old_client = Committer { version: 8, ..by("one", 2) };
    assert_eq!(group.check_commit(&old_client), Err(ErrorCode::UnsupportedVersion));
    for partition in 0..4 {
        let held = one.owned.contains(topic_id("a"), partition);
        let stale = if held { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) };
        assert_eq!(group.check_commit_of(&by("one", 1), topic_id("a"), partition), stale, "{partition}");
        assert_eq!(group.check_commit_of(&by("one", 2), topic_id("a"), partition), Ok(()));
        let zombie = group.check_commit_of(&by("two", 1), topic_id("a"), partition);
        assert_eq!(zombie, Err(ErrorCode::StaleMemberEpoch), "it held nothing at epoch 1");
    }
    let replayed = bed.replayed();
    let Some(Group::Consumer(again)) = replayed.group(GROUP) else { panic!() };
    assert_eq!(again.check_commit_of(&by("two", 1), topic_id("a"), 0), Err(ErrorCode::StaleMemberEpoch));
}

#[test]
fn offsets_are_told_to_members_of_this_epoch_and_to_admins() {
    let mut bed = Bed::new(&[("a", 1)]);
    Client::new("one", &["a"]).join(&mut bed);
    let fetch = |member: Option<&str>, epoch| {
        bed.group().check_fetch(&Fetcher { member_id: member.map(KStr::from), member_epoch: epoch })
    };
    assert_eq!(fetch(None, -1), Ok(()));
    assert_eq!(fetch(Some("one"), 1), Ok(()));
    assert_eq!(fetch(Some("one"), 0), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(Some("two"), 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn an_empty_group_takes_commits_from_outside() {
    let mut bed = Bed::new(&[("a", 1)]);
    let mut one = Client::new("one", &["a"]);
    one.join(&mut bed);
    bed.heartbeat(one.leaving(-1));
    assert_eq!(bed.group().check_commit(&by("", -1)), Ok(()));
    assert_eq!(bed.group().check_commit(&by("one", 1)), Err(ErrorCode::UnknownMemberId));
}
