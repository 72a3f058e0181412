//! CompactLogs, our own key 16384, version 0: partitions are compacted now, or it is told how far that is. The
//! work is the cleaner's; whoever asked polls.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_log::Log;
use millstream_protocol::messages::compact_logs_request::CompactLogsTopic;
use millstream_protocol::messages::compact_logs_response::{
    CompactLogsPartitionResult, CompactLogsTopicResult,
};
use millstream_protocol::messages::{CompactLogsRequest, CompactLogsResponse};
use millstream_protocol::{CompactionState, ErrorCode, KStr};

use super::asked_partitions::partitions;
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::NONE;
use crate::handlers::wire_errors::code_for_not_led;
use crate::metadata::topics::{Partition, Topic};
use crate::storage::compactions::Wish;

pub(crate) struct CompactLogs;

impl Handler for CompactLogs {
    type Request = CompactLogsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: CompactLogsRequest) -> Answer<CompactLogsResponse> {
        Answer::blocking(&call.clone(), move || {
            let told = request.topics.iter().map(|asked| of_topic(&call, asked, request.is_start));
            CompactLogsResponse { topics: told.collect() }
        })
    }
}

fn of_topic(call: &Call, asked: &CompactLogsTopic, is_start: bool) -> CompactLogsTopicResult {
    let refuse = |code: ErrorCode, message: &str| CompactLogsTopicResult {
        name: asked.name.clone(),
        error_code: code.code(),
        error_message: Some(KStr::from(message)),
        ..Default::default()
    };
    let snapshot = call.node.topics.snapshot();
    let Some(topic) = snapshot.named(&asked.name) else {
        let code = ErrorCode::UnknownTopicOrPartition;
        return refuse(code, code.message());
    };
    if !topic.settings.cleanup().compacts() {
        let message = "this topic is not compacted; its cleanup.policy would have to include 'compact'";
        return refuse(ErrorCode::PolicyViolation, message);
    }
    let told = partitions(topic, &asked.partitions).into_iter().map(|(partition_index, partition)| {
        partition.map_or_else(
            |code| CompactLogsPartitionResult {
                partition_index,
                error_code: code.code(),
                error_message: Some(KStr::from_static(code.message())),
                ..Default::default()
            },
            |partition| of_partition(call, topic, partition, is_start),
        )
    });
    CompactLogsTopicResult { name: asked.name.clone(), partitions: told.collect(), ..Default::default() }
}

fn of_partition(
    call: &Call,
    topic: &Topic,
    partition: &Arc<Partition>,
    is_start: bool,
) -> CompactLogsPartitionResult {
    let result = CompactLogsPartitionResult { partition_index: partition.index, ..Default::default() };
    let result = match call.node.view.lead(topic.id, partition, -1) {
        Ok(led) => with_facts(led.log, result),
        Err(error) => {
            let error_code = code_for_not_led(&error).code();
            let error_message = Some(KStr::from(error.to_string()));
            return CompactLogsPartitionResult { error_code, error_message, ..result };
        }
    };
    let key = (topic.id, partition.index);
    let compactions = &call.node.compactions;
    if is_start {
        compactions.ask(key);
    }
    let state = |state: CompactionState| state.code();
    match compactions.state(key) {
        None => CompactLogsPartitionResult { state: state(CompactionState::Idle), ..result },
        Some(Wish::Waiting) => {
            CompactLogsPartitionResult { state: state(CompactionState::Waiting), ..result }
        }
        Some(Wish::Running { done_bytes, total_bytes }) => CompactLogsPartitionResult {
            state: state(CompactionState::Running),
            done_bytes: i64::try_from(done_bytes).unwrap_or(i64::MAX),
            total_bytes: i64::try_from(total_bytes).unwrap_or(i64::MAX),
            ..result
        },
        Some(Wish::Failed { reason }) => CompactLogsPartitionResult {
            state: state(CompactionState::Failed),
            error_message: Some(KStr::from(reason)),
            ..result
        },
    }
}

/// What is known of the runs that there were.
fn with_facts(log: &Log, result: CompactLogsPartitionResult) -> CompactLogsPartitionResult {
    let facts = log.compaction_facts();
    let took = facts.last.and_then(|last| i64::try_from(last.took.as_millis()).ok());
    CompactLogsPartitionResult {
        dirty_bytes: i64::try_from(log.dirtiness().dirty_bytes).unwrap_or(i64::MAX),
        runs: i64::try_from(facts.runs).unwrap_or(i64::MAX),
        last_end_ms: facts.last_success_ms.unwrap_or(NONE),
        last_duration_ms: took.unwrap_or(NONE),
        ..result
    }
}
