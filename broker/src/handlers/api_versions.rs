//! ApiVersions, key 18, versions 0 to 4.
//!
//! The list is read off the dispatch table, so that nothing is advertised that is not served. An unknown
//! version is answered by `dispatch` in version 0 with UNSUPPORTED_VERSION (KIP-511).

use std::ops::RangeInclusive;

use millstream_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use millstream_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler, ROUTES};
use crate::metadata::features::Feature;

/// Clients before this version cannot read of a feature that can be off, and are not told of it, as in Kafka.
const FEATURES_FROM_ZERO: i16 = 4;

pub(crate) struct ApiVersions;

impl Handler for ApiVersions {
    type Request = ApiVersionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(call: Call, request: ApiVersionsRequest) -> Answer<ApiVersionsResponse> {
        if call.version >= 3 {
            let (name, version) = (&*request.client_software_name, &*request.client_software_version);
            if !is_software_name(name) || !is_software_name(version) {
                let error_code = ErrorCode::InvalidRequest.code();
                return Answer::Now(ApiVersionsResponse { error_code, ..Default::default() });
            }
            tracing::debug!(peer = %call.peer.address, client = name, version, "client introduced itself");
        }
        let levels = call.node.features.now();
        let is_told = |feature: &Feature| call.version >= FEATURES_FROM_ZERO || *feature.levels().start() > 0;
        let supported = Feature::ALL.into_iter().filter(is_told).map(|feature| SupportedFeatureKey {
            name: KStr::from_static(feature.name()),
            min_version: *feature.levels().start(),
            max_version: *feature.levels().end(),
        });
        let is_on = |feature: &Feature| levels.of(*feature) > 0;
        let finalized = Feature::ALL.into_iter().filter(is_on).map(|feature| FinalizedFeatureKey {
            name: KStr::from_static(feature.name()),
            max_version_level: levels.of(feature),
            min_version_level: levels.of(feature),
        });
        Answer::Now(ApiVersionsResponse {
            supported_features: supported.collect(),
            finalized_features: finalized.collect(),
            finalized_features_epoch: levels.epoch,
            ..served()
        })
    }
}

/// Every API with the versions that are advertised.
pub(crate) fn served() -> ApiVersionsResponse {
    let mut api_keys: Vec<ApiVersion> = ROUTES
        .iter()
        .map(|route| ApiVersion {
            api_key: route.api.code(),
            min_version: route.advertised_min,
            max_version: *route.versions.end(),
        })
        .collect();
    api_keys.sort_unstable_by_key(|api| api.api_key);
    ApiVersionsResponse { api_keys, ..Default::default() }
}

/// KIP-511: letters and digits, with '-' and '.' inside.
fn is_software_name(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    let ends = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().copied().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_clients_pass_and_decorated_ones_do_not() {
        for name in ["librdkafka", "apache-kafka-java", "4.3.1", "v1.2.0-rc1", "x"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", "é", "a_b"] {
            assert!(!is_software_name(name), "{name}");
        }
    }

    #[test]
    fn produce_is_advertised_from_zero_because_old_librdkafka_stops_compressing_otherwise() {
        let served = served();
        let produce = &served.api_keys[0];
        assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
    }
}
