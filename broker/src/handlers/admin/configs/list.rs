//! ListConfigResources, key 74, versions 0 and 1: what has settings.
//!
//! 0 lists the subscriptions to metrics of clients; there are none here. 1: the kinds that are asked for, or all.

use std::ops::RangeInclusive;

use millstream_protocol::messages::list_config_resources_response::ConfigResource;
use millstream_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct ListConfigResources;

impl Handler for ListConfigResources {
    type Request = ListConfigResourcesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(call: Call, request: ListConfigResourcesRequest) -> Answer<ListConfigResourcesResponse> {
        let all = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
        let mut asked = request.resource_types;
        match call.version {
            0 => asked = vec![CLIENT_METRICS],
            _ if asked.is_empty() => asked = all.to_vec(),
            _ => {}
        }
        if asked.iter().any(|kind| !all.contains(kind)) {
            let error_code = ErrorCode::UnsupportedVersion.code();
            return Answer::Now(ListConfigResourcesResponse { error_code, ..Default::default() });
        }
        let mut config_resources = Vec::new();
        let mut list = |resource_type, resource_name| {
            config_resources.push(ConfigResource { resource_name, resource_type });
        };
        if asked.contains(&TOPIC) {
            call.node.topics.snapshot().sorted().iter().for_each(|topic| list(TOPIC, topic.name.clone()));
        }
        if asked.contains(&BROKER) {
            let brokers = call.node.view.brokers(call.peer.dialled);
            brokers.iter().for_each(|broker| list(BROKER, KStr::from(broker.node.0.to_string())));
        }
        if asked.contains(&GROUP) {
            let settings = call.node.settings();
            settings.groups.own.keys().for_each(|group| list(GROUP, KStr::from(group.as_str())));
        }
        // The other kinds have no settings here.
        Answer::Now(ListConfigResourcesResponse { config_resources, ..Default::default() })
    }
}
