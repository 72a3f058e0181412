//! FindCoordinator, key 10, version 0.
//!
//! There are no coordinators yet, and yet it is served: librdkafka takes version 0 for the sign that a broker
//! knows lz4, and sends lz4 batches uncompressed otherwise. COORDINATOR_NOT_AVAILABLE is the one answer that
//! its consumers without a group swallow, though they must name one. Version 1 would bring transactional
//! producers here, to ask again for ever; without it librdkafka and Java tell them at once that the broker
//! lacks what they need.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct FindCoordinator;

impl Handler for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: FindCoordinatorRequest) -> Answer<FindCoordinatorResponse> {
        tracing::debug!(
            peer = %call.peer.address, group = &*request.key,
            "consumer groups are not served by this version of Millstream"
        );
        Answer::Now(FindCoordinatorResponse {
            error_code: ErrorCode::CoordinatorNotAvailable.code(),
            node_id: -1,
            port: -1,
            ..Default::default()
        })
    }
}
