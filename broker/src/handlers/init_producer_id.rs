//! InitProducerId, key 22, versions 0 to 5.
//!
//! Without a transactional id: a fresh id with epoch 0, always, also when the client names the id that it had. With one:
//! the producer that has it now, in a new epoch, which fences whoever had it before. 3: a client says who it was, and goes
//! on after an error (KIP-360). 4: PRODUCER_FENCED. 5: TRANSACTION_ABORTABLE.

use std::ops::RangeInclusive;

use millstream_log::ProducerId;
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::transaction::told;
use super::wire_errors::code_for_store;
use crate::dispatch::{Answer, Call, Handler};
use crate::transactions::{Begin, Identity};

/// From here on the client knows PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 4;

/// A client that says nothing of who it was.
const NOBODY: (i64, i16) = (-1, -1);

pub(crate) struct InitProducerId;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: InitProducerIdRequest) -> Answer<InitProducerIdResponse> {
        let expected = match (request.producer_id, request.producer_epoch) {
            NOBODY => None,
            (-1, _) | (_, -1) => return Answer::Now(refuse(ErrorCode::InvalidRequest)),
            (producer, epoch) => Some(Identity { producer: ProducerId::new(producer), epoch }),
        };
        let Some(id) = request.transactional_id else { return idempotent(&call) };
        let timeout_ms = request.transaction_timeout_ms;
        let begin = Begin { id: id.detach(), timeout_ms, expected, fresh: None };
        let version = call.version;
        let begun = call.node.transactions.begin(&call.node, begin);
        Answer::Later(Box::pin(async move {
            match begun.await {
                Ok(Identity { producer, epoch }) => InitProducerIdResponse {
                    producer_id: producer.get(),
                    producer_epoch: epoch,
                    ..Default::default()
                },
                Err(refused) => refuse(told(refused.code(), version, KNOWS_FENCED)),
            }
        }))
    }
}

fn idempotent(call: &Call) -> Answer<InitProducerIdResponse> {
    let node = call.node.clone();
    Answer::blocking(call, move || match node.producer_ids.next() {
        Ok(id) => InitProducerIdResponse { producer_id: id.get(), ..Default::default() },
        Err(error) => {
            tracing::error!(%error, "no producer id could be handed out");
            refuse(code_for_store(&error))
        }
    })
}

fn refuse(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}
