//! InitProducerId, key 22, versions 0 to 5.
//!
//! Idempotent producers only: a fresh id with epoch 0, always, also when the client names the id that it
//! had. A transactional id is refused with UNSUPPORTED_VERSION: both the Java client and librdkafka take
//! that for final, while a coordinator's error would make them ask again for ever. (They do not get here as
//! a rule: FindCoordinator is not advertised either.)

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::wire_errors::code_for_store;
use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct InitProducerId;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: InitProducerIdRequest) -> Answer<InitProducerIdResponse> {
        match &request.transactional_id {
            Some(id) if id.is_empty() => Answer::Now(refuse(ErrorCode::InvalidRequest)),
            Some(id) => {
                tracing::warn!(
                    peer = %call.peer.address, transactional_id = &**id,
                    "a transactional producer was refused: transactions are not served by this version of Millstream"
                );
                Answer::Now(refuse(ErrorCode::UnsupportedVersion))
            }
            None => Answer::blocking(&call.clone(), move || match call.node.producer_ids.next() {
                Ok(id) => InitProducerIdResponse { producer_id: id.get(), ..Default::default() },
                Err(error) => {
                    tracing::error!(%error, "no producer id could be handed out");
                    refuse(code_for_store(&error))
                }
            }),
        }
    }
}

fn refuse(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}
