//! UpdateFeatures, key 57, versions 0 to 2: every feature has one level here, so that only asking for that one
//! succeeds. 1: only checked. 2: one result for all features.

use std::ops::RangeInclusive;

use millstream_protocol::messages::update_features_request::FeatureUpdateKey;
use millstream_protocol::messages::update_features_response::UpdatableFeatureResult;
use millstream_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::features::features;
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::admin::refused::Refused;

/// From this version on the reply has one result.
const ONE_RESULT: i16 = 2;

pub(crate) struct UpdateFeatures;

impl Handler for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: UpdateFeaturesRequest) -> Answer<UpdateFeaturesResponse> {
        if call.version >= ONE_RESULT {
            let updated = request.feature_updates.iter().try_for_each(update);
            let (error_code, error_message) = Refused::told(updated);
            return Answer::Now(UpdateFeaturesResponse { error_code, error_message, ..Default::default() });
        }
        let results = request.feature_updates.iter().map(|asked| {
            let (error_code, error_message) = Refused::told(update(asked));
            UpdatableFeatureResult { feature: asked.feature.clone(), error_code, error_message }
        });
        Answer::Now(UpdateFeaturesResponse { results: results.collect(), ..Default::default() })
    }
}

fn update(asked: &FeatureUpdateKey) -> Result<(), Refused> {
    let (name, level): (&KStr, i16) = (&asked.feature, asked.max_version_level);
    let message = match features().find(|feature| feature.name == &**name) {
        Some(feature) if feature.level == level => return Ok(()),
        Some(feature) => {
            format!("'{name}' is always at level {}; level {level} is not served", feature.level)
        }
        None => format!("there is no feature '{name}' here"),
    };
    Err(Refused::new(ErrorCode::InvalidUpdateVersion, message))
}
