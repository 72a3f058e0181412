//! Features in Kafka's sense: levels of behaviour on which clients rely. One is named if what it stands for is
//! served, and is then always on.

use millstream_protocol::ApiKey;

use crate::dispatch::ROUTES;

/// A feature at the only level that there is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) level: i16,
    /// What it stands for.
    api: ApiKey,
}

const FEATURES: [Feature; 1] =
    [Feature { name: "group.version", level: 1, api: ApiKey::ConsumerGroupHeartbeat }];

/// The features that are in force.
pub(crate) fn features() -> impl Iterator<Item = Feature> {
    FEATURES.into_iter().filter(|feature| ROUTES.iter().any(|route| route.api == feature.api))
}
