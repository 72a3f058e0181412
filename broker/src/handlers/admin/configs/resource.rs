//! What has settings: topics, brokers and groups, as requests name them.

use millstream_protocol::ErrorCode;

use crate::coordinator::format::TEXT_BYTES_MAX;
use crate::dispatch::Call;
use crate::handlers::admin::refused::Refused;
use crate::metadata::topic_name;

/// The kinds of resources, as Kafka numbers them.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// For those that a request names again.
pub(super) fn named_twice() -> Refused {
    Refused::new(ErrorCode::InvalidRequest, "the request names this resource more than once")
}

/// One that has settings here. Whether a topic exists is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    Topic(&'a str),
    AllBrokers,
    ThisBroker,
    /// Whether there is such a group does not matter.
    Group(&'a str),
}

impl<'a> Resource<'a> {
    /// Reads what a request names.
    pub(super) fn read(call: &Call, kind: i8, name: &'a str) -> Result<Self, Refused> {
        let refuse = |message: String| Err(Refused::new(ErrorCode::InvalidRequest, message));
        match kind {
            TOPIC => match topic_name::check(name) {
                Ok(()) => Ok(Self::Topic(name)),
                Err(error) => Err(Refused::new(ErrorCode::InvalidTopicException, error.to_string())),
            },
            BROKER if name.is_empty() => Ok(Self::AllBrokers),
            BROKER => {
                let me = call.node.view.me().0;
                match name.parse::<i32>() {
                    Ok(id) if id == me => Ok(Self::ThisBroker),
                    Ok(_) => refuse(format!("this is broker {me}, not '{name}'")),
                    Err(_) => refuse(format!("'{name}' is not the number of a broker; this one is {me}")),
                }
            }
            BROKER_LOGGER => refuse(
                "loggers cannot be set here; start the broker with --log FILTER (MILLSTREAM_LOG)".to_owned(),
            ),
            CLIENT_METRICS => refuse("metrics of clients are not collected here".to_owned()),
            GROUP if name.is_empty() => {
                refuse("a group's settings need its id; the broker's group.* hold for all groups".to_owned())
            }
            GROUP if name.len() > TEXT_BYTES_MAX => {
                refuse(format!("a group id has at most {TEXT_BYTES_MAX} bytes"))
            }
            GROUP => Ok(Self::Group(name)),
            other => {
                refuse(format!("there is no resource type {other}; topics are 2, brokers 4 and groups 32"))
            }
        }
    }
}
