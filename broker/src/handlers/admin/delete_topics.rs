//! DeleteTopics, key 20, versions 1 to 6.
//!
//! 5: messages for people. 6: topics by id as well as by name. Waits for the disk, so it runs on the control
//! plane.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use millstream_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_protocol::messages::delete_topics_response::DeletableTopicResult;
use millstream_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::refused::Refused;
use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct DeleteTopics;

impl Handler for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=6;

    fn handle(call: Call, request: DeleteTopicsRequest) -> Answer<DeleteTopicsResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, request))
    }
}

fn answer(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter();
    let named = by_name.map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::nil() });
    let asked: Vec<Asked> = named.chain(request.topics).map(|topic| Asked::new(call, topic)).collect();
    let mut times: HashMap<Option<KStr>, usize> = HashMap::new();
    for topic in &asked {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let responses = asked.into_iter().map(|topic| {
        let is_twice = topic.name.is_some() && times[&topic.name] > 1;
        topic.delete(call, is_twice)
    });
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

/// A topic as it was asked for, with its name looked up.
struct Asked {
    name: Option<KStr>,
    id: Uuid,
    refused: Option<Refused>,
}

impl Asked {
    fn new(call: &Call, topic: DeleteTopicState) -> Self {
        let DeleteTopicState { name, topic_id: id } = topic;
        match (name, id.is_nil()) {
            (Some(name), true) => Self { name: Some(name), id, refused: None },
            (None, false) => match call.node.topics.snapshot().identified(id) {
                Some(topic) => Self { name: Some(topic.name.clone()), id, refused: None },
                None => Self { name: None, id, refused: Some(ErrorCode::UnknownTopicId.into()) },
            },
            (name, _) => {
                let message = "a topic is named either by its name or by its id";
                let refused = Some(Refused::new(ErrorCode::InvalidRequest, message));
                Self { name, id, refused }
            }
        }
    }

    fn delete(self, call: &Call, is_twice: bool) -> DeletableTopicResult {
        let Self { name, id, refused } = self;
        let result = match (refused, &name) {
            (Some(refused), _) => Err(refused),
            (None, _) if is_twice => {
                let message = "the request names this topic more than once";
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            }
            (None, Some(_)) if !call.node.settings().delete_topics => {
                let code = match call.version {
                    ..=2 => ErrorCode::InvalidRequest,
                    _ => ErrorCode::TopicDeletionDisabled,
                };
                Err(Refused::new(code, "topics cannot be deleted: delete.topic.enable is false"))
            }
            (None, Some(name)) => call.node.topics.delete(name).map_err(Refused::from),
            (None, None) => Err(ErrorCode::UnknownTopicId.into()),
        };
        let (code, error_message) = match result {
            Ok(()) => (ErrorCode::None, None),
            Err(refused) => (refused.code, refused.message()),
        };
        DeletableTopicResult { name, topic_id: id, error_code: code.code(), error_message }
    }
}
