//! DeleteGroups, key 42, versions 0 to 2: groups without members go, with their offsets.

use std::ops::RangeInclusive;

use millstream_protocol::KStr;
use millstream_protocol::messages::delete_groups_response::DeletableGroupResult;
use millstream_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::answers;

pub(crate) struct DeleteGroups;

impl Handler for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: DeleteGroupsRequest) -> Answer<DeleteGroupsResponse> {
        let deleting: Vec<_> = request.groups_names.into_iter().map(|id| delete(&call, id)).collect();
        Answer::Later(Box::pin(async move {
            DeleteGroupsResponse { results: answers(deleting).await, ..Default::default() }
        }))
    }
}

fn delete(call: &Call, id: KStr) -> impl Future<Output = DeletableGroupResult> + use<> {
    let group = id.clone();
    let asked = call.node.groups.ask(&call.node, &id, move |shard, turn, ticket| {
        shard.delete(turn, ticket, group);
    });
    async move {
        asked.await.unwrap_or_else(|not_ready| DeletableGroupResult {
            group_id: id,
            error_code: not_ready.code().code(),
        })
    }
}
