//! CreatePartitions, key 37, versions 0 to 3: a topic grows to a number of partitions. Waits for the disk,
//! so it runs on the control plane.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use millstream_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use millstream_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use millstream_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::refused::Refused;
use super::replicas::check_assignment;
use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct CreatePartitions;

impl Handler for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    fn handle(call: Call, request: CreatePartitionsRequest) -> Answer<CreatePartitionsResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

fn answer(call: &Call, request: &CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut times: HashMap<&KStr, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let results = request.topics.iter().map(|topic| {
        let grown = match times[&topic.name] {
            1 => grow(call, topic, request.validate_only),
            _ => {
                let message = "the request names this topic more than once";
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            }
        };
        let (code, error_message) = match grown {
            Ok(()) => (ErrorCode::None, None),
            Err(refused) => (refused.code, refused.message()),
        };
        CreatePartitionsTopicResult { name: topic.name.clone(), error_code: code.code(), error_message }
    });
    CreatePartitionsResponse { results: results.collect(), ..Default::default() }
}

fn grow(call: &Call, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    let count = i64::from(asked.count);
    let topic = call.node.topics.check_growth(&asked.name, count)?;
    if let Some(assignments) = &asked.assignments {
        let new = count - i64::try_from(topic.partitions.len()).expect("bounded by PARTITIONS_MAX");
        if i64::try_from(assignments.len()) != Ok(new) {
            let message = format!("{} assignments were given for {new} new partitions", assignments.len());
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        for assignment in assignments {
            check_assignment(call, &assignment.broker_ids)?;
        }
    }
    match validate_only {
        true => Ok(()),
        false => Ok(call.node.topics.grow(&asked.name, count)?),
    }
}
