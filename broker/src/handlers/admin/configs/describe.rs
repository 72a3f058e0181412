//! DescribeConfigs, key 32, versions 1 to 4.
//!
//! Every setting of the registry with its value and where that comes from; a null or empty list of keys
//! means all. A resource is told once. 1: synonyms, the other places from which the value could have come. 3: types
//! and documentation.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use millstream_protocol::messages::describe_configs_request::DescribeConfigsResource;
use millstream_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millstream_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::resource::{Resource, named_twice};
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::admin::refused::Refused;
use crate::settings::{BrokerSettings, Effect, Kind, Knob, Layer, Layers, REGISTRY};

/// Where a value comes from, as Kafka numbers it.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_GROUP: i8 = 8;

fn source_of(layer: Layer) -> i8 {
    match layer {
        Layer::ThisBroker => 2,
        Layer::AllBrokers => 3,
        Layer::AtStart => 4,
    }
}

pub(crate) struct DescribeConfigs;

impl Handler for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=4;

    fn handle(call: Call, request: DescribeConfigsRequest) -> Answer<DescribeConfigsResponse> {
        let mut named = HashSet::new();
        let results = request.resources.iter().map(|resource| {
            // An answer may be three thousand times as long as the question.
            let is_first = named.insert((resource.resource_type, resource.resource_name.as_str()));
            let found = if is_first { find(&call, resource) } else { Err(named_twice()) };
            let (code, error_message, entries) = match found {
                Ok(entries) => (ErrorCode::None, None, entries),
                Err(refused) => (refused.code, refused.message(), Vec::new()),
            };
            let wanted = entries.into_iter().filter(|entry| is_wanted(resource, entry.name));
            DescribeConfigsResult {
                error_code: code.code(),
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs: wanted.map(|entry| entry.tell(&request)).collect(),
            }
        });
        Answer::Now(DescribeConfigsResponse { results: results.collect(), ..Default::default() })
    }
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    keys.is_empty() || keys.iter().any(|key| &**key == name)
}

fn find(call: &Call, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refused> {
    let settings = &call.node.settings();
    match Resource::read(call, resource.resource_type, &resource.resource_name)? {
        Resource::Topic(name) => {
            let snapshot = call.node.topics.snapshot();
            let topic = snapshot.named(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(topic_entries(settings, &topic.configs))
        }
        Resource::AllBrokers => Ok(cluster_wide_entries(settings)),
        Resource::ThisBroker => {
            let layers = &settings.layers;
            Ok(REGISTRY.iter().map(|knob| Entry::new(layers, knob, knob.name, None)).collect())
        }
        Resource::Group(id) => Ok(group_entries(settings, id)),
    }
}

/// What was set for all brokers, as Kafka tells it: no defaults.
fn cluster_wide_entries(settings: &BrokerSettings) -> Vec<Entry> {
    let set = &settings.layers.all_brokers;
    let layers = Layers { all_brokers: set.clone(), ..Layers::default() };
    let knobs = REGISTRY.iter().filter(|knob| set.contains_key(knob.name));
    let of_all = |knob| {
        let mut entry = Entry::new(&layers, knob, knob.name, None);
        entry.synonyms.truncate(1);
        entry
    };
    knobs.map(of_all).collect()
}

/// Everything that is in force for a topic, by the topic's names.
pub(in crate::handlers::admin) fn topic_entries(
    settings: &BrokerSettings,
    configs: &BTreeMap<String, String>,
) -> Vec<Entry> {
    let named = REGISTRY.iter().filter_map(|knob| Some((knob, knob.topic_name()?)));
    let own = |name| Some((configs.get(name)?.as_str(), SOURCE_TOPIC));
    let entry = |(knob, name)| Entry::new(&settings.layers, knob, name, own(name));
    named.map(entry).collect()
}

/// Everything that a group can set for itself, by its names, whether there is such a group or not.
fn group_entries(settings: &BrokerSettings, id: &str) -> Vec<Entry> {
    let named = REGISTRY.iter().filter_map(|knob| Some((knob, knob.group_name()?)));
    let of_group = settings.groups.own.get(id);
    let own = |name| Some((of_group?.written().get(name)?.as_str(), SOURCE_GROUP));
    named.map(|(knob, name)| Entry::new(&settings.layers, knob, name, own(name))).collect()
}

/// One setting that is in force.
pub(in crate::handlers::admin) struct Entry {
    pub(in crate::handlers::admin) name: &'static str,
    pub(in crate::handlers::admin) value: KStr,
    pub(in crate::handlers::admin) source: i8,
    read_only: bool,
    knob: &'static Knob,
    /// From the most to the least particular; the first one holds.
    synonyms: Vec<DescribeConfigsSynonym>,
}

impl Entry {
    /// `own` is what the topic or group sets for itself, with the source that stands for that.
    fn new(layers: &Layers, knob: &'static Knob, name: &'static str, own: Option<(&str, i8)>) -> Self {
        let synonym = |name: &'static str, value: &str, source| DescribeConfigsSynonym {
            name: KStr::from_static(name),
            value: Some(KStr::from(value)),
            source,
        };
        let own = own.map(|(value, source)| synonym(name, value, source));
        let of_broker = layers.values(knob).map(|(layer, value)| synonym(knob.name, value, source_of(layer)));
        let default = synonym(knob.name, knob.default, SOURCE_DEFAULT);
        let synonyms: Vec<_> = own.into_iter().chain(of_broker).chain([default]).collect();
        let value = synonyms[0].value.clone().unwrap_or_default();
        let read_only = knob.effect == Effect::AtStart;
        Self { name, value, source: synonyms[0].source, read_only, knob, synonyms }
    }

    fn tell(self, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
        DescribeConfigsResourceResult {
            name: KStr::from_static(self.name),
            value: Some(self.value),
            read_only: self.read_only,
            config_source: self.source,
            is_sensitive: false,
            synonyms: if request.include_synonyms { self.synonyms } else { Vec::new() },
            config_type: config_type(self.knob.kind),
            documentation: request.include_documentation.then(|| KStr::from_static(self.knob.doc)),
        }
    }
}

fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean | Kind::Never => 1,
        Kind::Choice(_) | Kind::Address | Kind::Text => 2,
        Kind::Int { .. } => 3,
        Kind::Long { .. } => 5,
        Kind::Ratio => 6,
        Kind::List(_) | Kind::Subset(_) => 7,
    }
}
