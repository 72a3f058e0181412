//! Settings of topics, brokers and groups, as the broker tells them.

mod alter;

use millstream_protocol::KStr;
use millstream_protocol::messages::DescribeConfigsRequest;
use millstream_protocol::messages::describe_configs_request::DescribeConfigsResource;
use millstream_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;

use super::{Admin, judge, refusal, unanswered};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::BrokerId;

pub use alter::{AlterConfigsError, AlterMode, ConfigEdit};

/// From this version on the broker adds a description of each setting if asked.
const DOCUMENTED_FROM: i16 = 3;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// Whose settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigResource<'a> {
    /// A topic's.
    Topic(&'a str),
    /// A broker's.
    Broker(BrokerId),
    /// What was set for all brokers while they run.
    AllBrokers,
    /// A group's, whether it is there or not.
    Group(&'a str),
}

impl ConfigResource<'_> {
    /// As sentences name it.
    fn subject(self) -> String {
        match self {
            Self::Topic(name) => format!("settings of {name:?}"),
            Self::Broker(id) => format!("settings of broker {id}"),
            Self::AllBrokers => "settings of all brokers".to_owned(),
            Self::Group(id) => format!("settings of group {id:?}"),
        }
    }

    /// As requests name it, and whom to ask.
    fn parts(self) -> (i8, KStr, To<'static>) {
        match self {
            Self::Topic(name) => (TOPIC, KStr::from(name), To::Any),
            Self::Broker(id) => (BROKER, KStr::from(id.to_string()), To::Broker(id)),
            Self::AllBrokers => (BROKER, KStr::default(), To::Any),
            Self::Group(id) => (GROUP, KStr::from(id), To::Any),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the group.
    Group,
    /// Set on the broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// From the broker's file or command line.
    StaticBroker,
    /// Built in.
    Default,
    /// A source that this client does not know, by its number.
    Unlisted(i8),
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: KStr,
    /// Its value; a secret has none.
    pub value: Option<KStr>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether it is a secret.
    pub sensitive: bool,
    /// What it is for, if the broker says.
    pub documentation: Option<KStr>,
}

/// Why settings were not described.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DescribeConfigsError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeConfigsError only reads);

impl Admin {
    /// Every setting of a topic, broker or group, in the broker's order.
    ///
    /// # Errors
    /// That there is no such topic or broker, or that it refuses or cannot be asked.
    pub async fn describe_configs(
        &self,
        resource: ConfigResource<'_>,
    ) -> Result<Vec<ConfigEntry>, DescribeConfigsError> {
        let (kind, name, to) = resource.parts();
        let wanted =
            DescribeConfigsResource { resource_type: kind, resource_name: name, configuration_keys: None };
        let mut request = DescribeConfigsRequest { resources: vec![wanted], ..Default::default() };
        let request = &mut request;
        self.retry(async || {
            let connection = self.client.connection(to).await?;
            let version = connection.version_of::<DescribeConfigsRequest>(CallOptions::default())?;
            let request = DescribeConfigsRequest {
                include_documentation: version >= DOCUMENTED_FROM,
                ..request.clone()
            };
            let answer = connection.send(&request, CallOptions::default()).await?.await?;
            let subject = || resource.subject();
            let result = answer.results.into_iter().next();
            let result = result.ok_or_else(|| DescribeConfigsError::Refused(unanswered(subject())))?;
            refusal(result.error_code, result.error_message.as_ref(), subject)
                .map_err(DescribeConfigsError::Refused)?;
            Ok(result.configs.into_iter().map(entry).collect())
        })
        .await
    }
}

fn entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name,
        value: config.value,
        source: match config.config_source {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            8 => ConfigSource::Group,
            source => ConfigSource::Unlisted(source),
        },
        read_only: config.read_only,
        sensitive: config.is_sensitive,
        documentation: config.documentation,
    }
}
