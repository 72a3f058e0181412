//! EndTxn, key 26, versions 0 to 5: commits or aborts a transaction.
//!
//! 2: PRODUCER_FENCED. 4: TRANSACTION_ABORTABLE. 5: the producer has a new epoch from here on, which the reply tells
//! (KIP-890). The reply leaves when the markers are on the disk, so that what is committed can be read by then.

use std::ops::RangeInclusive;

use millstream_log::ProducerId;
use millstream_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::told;
use crate::dispatch::{Answer, Call, Handler};
use crate::transactions::{End, Identity, Outcome, Version};

/// From here on the client knows PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 2;

/// From here on the client has a new epoch after each transaction.
const BUMPS: i16 = 5;

pub(crate) struct EndTxn;

impl Handler for EndTxn {
    type Request = EndTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: EndTxnRequest) -> Answer<EndTxnResponse> {
        let version = call.version;
        let end = End {
            id: request.transactional_id.detach(),
            by: Identity { producer: ProducerId::new(request.producer_id), epoch: request.producer_epoch },
            outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
            version: if version >= BUMPS { Version::Two } else { Version::One },
            fresh: None,
        };
        let ended = call.node.transactions.end(&call.node, end);
        Answer::Later(Box::pin(async move {
            match ended.await {
                Ok(Identity { producer, epoch }) => EndTxnResponse {
                    producer_id: producer.get(),
                    producer_epoch: epoch,
                    ..Default::default()
                },
                Err(refused) => EndTxnResponse {
                    error_code: told(refused.code(), version, KNOWS_FENCED).code(),
                    ..Default::default()
                },
            }
        }))
    }
}
