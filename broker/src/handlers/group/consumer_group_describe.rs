//! ConsumerGroupDescribe, key 69, versions 0 and 1: groups of the new protocol and those who are in them.
//!
//! 1: which protocol a member speaks (KIP-1099).

use std::ops::RangeInclusive;

use millstream_protocol::messages::consumer_group_describe_response::DescribedGroup;
use millstream_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::answers;
use crate::handlers::authorized::group_operations;
use crate::metadata::features::Feature;

pub(crate) struct ConsumerGroupDescribe;

impl Handler for ConsumerGroupDescribe {
    type Request = ConsumerGroupDescribeRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(call: Call, request: ConsumerGroupDescribeRequest) -> Answer<ConsumerGroupDescribeResponse> {
        let is_asked = request.include_authorized_operations;
        let describing: Vec<_> = request.group_ids.into_iter().map(|id| describe(&call, id)).collect();
        Answer::Later(Box::pin(async move {
            let mut groups = answers(describing).await;
            for group in groups.iter_mut().filter(|group| group.error_code == 0) {
                group.authorized_operations = group_operations(is_asked);
            }
            ConsumerGroupDescribeResponse { groups, ..Default::default() }
        }))
    }
}

fn describe(call: &Call, id: KStr) -> impl Future<Output = DescribedGroup> + use<> {
    let group = id.clone();
    let is_served = call.node.features.level(Feature::GroupVersion) > 0;
    let asked = (is_served && !id.is_empty()).then(|| {
        call.node.groups.ask(&call.node, &id, move |shard, turn, ticket| {
            shard.consumer_describe(turn, ticket, &group);
        })
    });
    async move {
        match asked {
            Some(asked) => asked.await.unwrap_or_else(|not_ready| refused(id, not_ready.code())),
            None if is_served => refused(id, ErrorCode::InvalidGroupId),
            None => refused(id, ErrorCode::UnsupportedVersion),
        }
    }
}

fn refused(group_id: KStr, code: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        error_code: code.code(),
        error_message: Some(KStr::from_static(code.message())),
        group_id,
        ..Default::default()
    }
}
