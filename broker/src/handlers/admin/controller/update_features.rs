//! UpdateFeatures, key 57, versions 0 to 2: levels are turned up and down, all that are named or none. 1: only checked,
//! and which way a level may go. 2: one result for all features.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::update_features_request::FeatureUpdateKey;
use millstream_protocol::messages::update_features_response::UpdatableFeatureResult;
use millstream_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::admin::refused::Refused;
use crate::handlers::wire_errors::code_for_store;
use crate::metadata::features::{Direction, FeatureError, Update};
use crate::metadata::live_settings::Intent;

/// From this version on the reply has one result.
const ONE_RESULT: i16 = 2;
/// Before this version nothing says which way a level may go; Kafka's controller does not look at the older flag.
const WITH_DIRECTION: i16 = 1;

pub(crate) struct UpdateFeatures;

impl Handler for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: UpdateFeaturesRequest) -> Answer<UpdateFeaturesResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

fn answer(call: &Call, request: &UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let updates: Vec<Update<'_>> =
        request.feature_updates.iter().map(|asked| read(asked, call.version)).collect();
    let intent = if request.validate_only { Intent::Check } else { Intent::Change };
    let updated = call.node.features.update(call.node.view.me(), &updates, intent);
    let is_done = updated.is_ok();
    let (error_code, error_message) = Refused::told(updated.map_err(|error| refused(&error)));
    let has_results = is_done && call.version < ONE_RESULT;
    let results = request.feature_updates.iter().filter(|_| has_results);
    let results = results
        .map(|asked| UpdatableFeatureResult {
            feature: asked.feature.clone(),
            error_code: ErrorCode::None.code(),
            error_message: None,
        })
        .collect();
    UpdateFeaturesResponse { error_code, error_message, results, ..Default::default() }
}

fn read(asked: &FeatureUpdateKey, version: i16) -> Update<'_> {
    let direction = match asked.upgrade_type {
        _ if version < WITH_DIRECTION => Direction::Up,
        1 => Direction::Up,
        // Safe or not: nothing is lost on the way down here.
        2 | 3 => Direction::Down,
        _ => Direction::Unknown,
    };
    Update { feature: &asked.feature, level: asked.max_version_level, direction }
}

fn refused(error: &FeatureError) -> Refused {
    let code = match error {
        FeatureError::Refused { .. } => ErrorCode::InvalidUpdateVersion,
        FeatureError::Store(error) => code_for_store(error),
    };
    Refused::new(code, error.to_string())
}
