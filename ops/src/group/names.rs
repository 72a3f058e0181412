//! What to say about groups that are not there, and about those that are alive when they must not be.

use millstream_client::{Admin, GroupFilter, GroupMember};

use crate::text::plural;

/// Members named in a message; of more it says how many.
const NAMED_MAX: usize = 5;

/// That there is no such group, with the one that was probably meant.
///
/// # Errors
/// When the broker does not list its groups.
pub(super) async fn unknown_group(admin: &Admin, group: &str) -> anyhow::Result<String> {
    let groups = admin.list_groups(&GroupFilter::default()).await?;
    let close = closest(group, groups.iter().map(|group| &*group.id));
    let hint = match close {
        Some(close) => format!("did you mean {close:?}?"),
        None => "`millstream group list` shows those there are".to_owned(),
    };
    Ok(format!("there is no group {group:?}; {hint}"))
}

/// That a group cannot be `done` (moved, deleted) to because somebody is in it, and who.
///
/// # Errors
/// When the group cannot be described.
pub(super) async fn is_live(admin: &Admin, group: &str, done: &str) -> anyhow::Result<String> {
    let description = admin.describe_group(group).await?;
    Ok(live(group, &description.members, done))
}

/// The same about members that are known.
pub(super) fn live(group: &str, members: &[GroupMember], done: &str) -> String {
    let count = members.len() as u64;
    let mut named: Vec<String> = members.iter().take(NAMED_MAX).map(member).collect();
    if members.len() > NAMED_MAX {
        named.push(format!("and {} more", members.len() - NAMED_MAX));
    }
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    format!(
        "group {group:?} is live and cannot be {done}; it has {count} {}{named}; stop {} first",
        plural(count, "member", "members"),
        plural(count, "it", "them"),
    )
}

/// `billing-1 at /10.0.0.7`
fn member(member: &GroupMember) -> String {
    let name = member.instance_id.as_deref().unwrap_or(&member.client_id);
    let name = if name.is_empty() { &*member.id } else { name };
    format!("{name} at {}", member.client_host.trim_start_matches('/'))
}

/// The name that differs least, if it can be a slip.
fn closest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    // Further away than this it is another name.
    near.filter(|(far, _)| *far <= 2 + name.chars().count() / 4).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_another_name_is_not_offered() {
        let names = ["billing", "orders-projection"];
        assert_eq!(closest("biling", names.into_iter()), Some("billing"));
        assert_eq!(closest("order-projection", names.into_iter()), Some("orders-projection"));
        assert_eq!(closest("search", names.into_iter()), None);
    }
}
