//! FindCoordinator, key 10, versions 0 to 6.
//!
//! 1: kinds of keys. 4: several keys at a time. This node coordinates every group and every transaction; an internal topic
//! is made when it is asked for first.

use std::ops::RangeInclusive;

use millstream_protocol::messages::find_coordinator_response::Coordinator;
use millstream_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};

/// Kinds of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// From here on there are several keys.
const BATCHED: i16 = 4;

pub(crate) struct FindCoordinator;

impl Handler for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn handle(call: Call, request: FindCoordinatorRequest) -> Answer<FindCoordinatorResponse> {
        Answer::Later(Box::pin(async move {
            let found = match request.key_type {
                GROUP => call.node.groups.prepare(&call.node).await.map_err(|not_ready| not_ready.code()),
                TRANSACTION => {
                    call.node.transactions.prepare(&call.node).await.map_err(|not_ready| not_ready.code())
                }
                _ => Err(ErrorCode::InvalidRequest),
            };
            answer(&call, request, found)
        }))
    }
}

fn answer(
    call: &Call,
    request: FindCoordinatorRequest,
    found: Result<(), ErrorCode>,
) -> FindCoordinatorResponse {
    let told = match found {
        Ok(()) => here(call),
        Err(code) => refused(request.key_type, code),
    };
    if call.version >= BATCHED {
        let keys = request.coordinator_keys.into_iter();
        let coordinators = keys.map(|key| Coordinator { key, ..told.clone() }).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    FindCoordinatorResponse {
        error_code: told.error_code,
        error_message: told.error_message,
        node_id: told.node_id,
        host: told.host,
        port: told.port,
        ..Default::default()
    }
}

fn here(call: &Call) -> Coordinator {
    let view = &call.node.view;
    let me = view.me();
    let mut brokers = view.brokers(call.peer.dialled).into_iter();
    match brokers.find(|broker| broker.node == me) {
        Some(broker) => Coordinator {
            node_id: me.0,
            host: KStr::from(broker.host),
            port: i32::from(broker.port),
            ..Default::default()
        },
        None => refused(GROUP, ErrorCode::CoordinatorNotAvailable),
    }
}

fn refused(key_type: i8, code: ErrorCode) -> Coordinator {
    let message = match key_type {
        GROUP | TRANSACTION => code.message(),
        _ => "only groups and transactions have a coordinator here",
    };
    Coordinator {
        node_id: -1,
        port: -1,
        error_code: code.code(),
        error_message: Some(KStr::from_static(message)),
        ..Default::default()
    }
}
