//! ListGroups, key 16, versions 0 to 5.
//!
//! 4: only groups in certain states. 5: only groups of certain kinds. Words are taken in any case; one that is
//! unknown matches no group.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::list_groups_response::ListedGroup;
use millstream_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::{ListFilter, NotReady};

pub(crate) struct ListGroups;

impl Handler for ListGroups {
    type Request = ListGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: ListGroupsRequest) -> Answer<ListGroupsResponse> {
        let filter = ListFilter { states: request.states_filter, kinds: request.types_filter };
        let asked = call.node.groups.ask_all(&call.node, move |shard, turn, ticket| {
            shard.list(turn, ticket, &filter);
        });
        Answer::Later(Box::pin(async move { answer(asked.await) }))
    }
}

/// All or nothing: half a list would look like lost groups.
fn answer(listed: Vec<Result<Vec<ListedGroup>, NotReady>>) -> ListGroupsResponse {
    match listed.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(listed) => {
            let mut groups: Vec<ListedGroup> = listed.into_iter().flatten().collect();
            groups.sort_unstable_by(|one, other| one.group_id.cmp(&other.group_id));
            ListGroupsResponse { error_code: ErrorCode::None.code(), groups, ..Default::default() }
        }
        Err(not_ready) => ListGroupsResponse { error_code: not_ready.code().code(), ..Default::default() },
    }
}
