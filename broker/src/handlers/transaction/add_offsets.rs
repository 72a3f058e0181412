//! AddOffsetsToTxn, key 25, versions 0 to 4: a transaction is about to commit offsets of a group.
//!
//! 2: PRODUCER_FENCED. 4: TRANSACTION_ABORTABLE. What is added is the group's partition of `__consumer_offsets`.

use std::ops::RangeInclusive;

use millstream_log::ProducerId;
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::{asked, told};
use crate::dispatch::{Answer, Call, Handler};
use crate::transactions::{Identity, Refused, Version};

/// From here on the client knows PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 2;

pub(crate) struct AddOffsetsToTxn;

impl Handler for AddOffsetsToTxn {
    type Request = AddOffsetsToTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(call: Call, request: AddOffsetsToTxnRequest) -> Answer<AddOffsetsToTxnResponse> {
        Answer::Later(Box::pin(async move {
            let code = match add(&call, request).await {
                Ok(()) => ErrorCode::None,
                Err(code) => told(code, call.version, KNOWS_FENCED),
            };
            AddOffsetsToTxnResponse { error_code: code.code(), ..Default::default() }
        }))
    }
}

async fn add(call: &Call, request: AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let node = &call.node;
    let by = Identity { producer: ProducerId::new(request.producer_id), epoch: request.producer_epoch };
    node.groups.prepare(node).await.map_err(|not_ready| not_ready.code())?;
    let partition = node.groups.offsets_partition(node, &request.group_id);
    let asked = partition.and_then(|partition| asked(node, by.producer, partition));
    let partitions = vec![asked.ok_or(ErrorCode::CoordinatorNotAvailable)?];
    let added = node.transactions.add(node, &request.transactional_id, by, partitions, Version::One);
    added.await.map_err(Refused::code)
}
