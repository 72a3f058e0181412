//! AlterConfigs, key 33, versions 0 to 2: all settings of a resource are replaced; what is not named goes back to its
//! default. Clients should ask IncrementalAlterConfigs instead: two who do this undo each other's work.

use std::ops::RangeInclusive;

use millstream_protocol::messages::alter_configs_request::AlterConfigsResource;
use millstream_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use millstream_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::change::{Asked, change_all, intent};
use super::incremental_alter::no_value;
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::admin::refused::Refused;
use crate::settings::{Edit, Kept};

pub(crate) struct AlterConfigs;

impl Handler for AlterConfigs {
    type Request = AlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: AlterConfigsRequest) -> Answer<AlterConfigsResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

fn answer(call: &Call, request: &AlterConfigsRequest) -> AlterConfigsResponse {
    let asked = request.resources.iter().map(read).collect();
    let changed = change_all(call, asked, Kept::None, intent(request.validate_only));
    let told = request.resources.iter().zip(changed).map(|(resource, changed)| {
        let (error_code, error_message) = Refused::told(changed);
        let (resource_type, resource_name) = (resource.resource_type, resource.resource_name.clone());
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    AlterConfigsResponse { responses: told.collect(), ..Default::default() }
}

fn read(resource: &AlterConfigsResource) -> Asked<'_> {
    let edits = resource.configs.iter().map(|config| {
        let value = config.value.as_ref().ok_or_else(|| no_value(&config.name));
        (&config.name, value.map(|value| Edit::Set(value.to_string())))
    });
    Asked { kind: resource.resource_type, name: &resource.resource_name, edits: edits.collect() }
}
