//! ListPartitionReassignments, key 46, version 0: partitions that are moving to other brokers. There is one broker,
//! so there are none; what is asked for and not moving, or not there, is not named, as in Kafka.

use std::ops::RangeInclusive;

use millstream_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        _call: Call,
        _request: ListPartitionReassignmentsRequest,
    ) -> Answer<ListPartitionReassignmentsResponse> {
        Answer::Now(ListPartitionReassignmentsResponse::default())
    }
}
