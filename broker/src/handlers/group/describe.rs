//! DescribeGroups, key 15, versions 0 to 6: classic groups and those who are in them.
//!
//! 3: what the client may do. 4: static members. 6: an unknown group is an error with a reason; before, it is a
//! dead group.

use std::ops::RangeInclusive;

use millstream_protocol::KStr;
use millstream_protocol::messages::describe_groups_response::DescribedGroup;
use millstream_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::answers;
use crate::handlers::authorized::group_operations;

pub(crate) struct DescribeGroups;

impl Handler for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn handle(call: Call, request: DescribeGroupsRequest) -> Answer<DescribeGroupsResponse> {
        let is_asked = request.include_authorized_operations;
        let describing: Vec<_> = request.groups.into_iter().map(|id| describe(&call, id)).collect();
        Answer::Later(Box::pin(async move {
            let mut groups = answers(describing).await;
            for group in groups.iter_mut().filter(|group| group.error_code == 0) {
                group.authorized_operations = group_operations(is_asked);
            }
            DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
        }))
    }
}

fn describe(call: &Call, id: KStr) -> impl Future<Output = DescribedGroup> + use<> {
    let (group, version) = (id.clone(), call.version);
    let asked = call.node.groups.ask(&call.node, &id, move |shard, turn, ticket| {
        shard.describe(turn, ticket, (&group, version));
    });
    async move {
        asked.await.unwrap_or_else(|not_ready| DescribedGroup {
            group_id: id,
            error_code: not_ready.code().code(),
            ..DescribedGroup::default()
        })
    }
}
