//! IncrementalAlterConfigs, key 44, versions 0 and 1: single settings are set, taken back, and lists made longer or
//! shorter. Waits for the disk, so it runs on the control plane; what is set is durable and in force when the reply
//! leaves.

use std::ops::RangeInclusive;

use millstream_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use millstream_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use millstream_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::change::{Asked, change_all, intent};
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::admin::refused::Refused;
use crate::settings::{Edit, Kept};

/// Operations, as Kafka numbers them.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) struct IncrementalAlterConfigs;

impl Handler for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(
        call: Call,
        request: IncrementalAlterConfigsRequest,
    ) -> Answer<IncrementalAlterConfigsResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

fn answer(call: &Call, request: &IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.iter().map(read).collect();
    let changed = change_all(call, asked, Kept::All, intent(request.validate_only));
    let told = request.resources.iter().zip(changed).map(|(resource, changed)| {
        let (error_code, error_message) = Refused::told(changed);
        let (resource_type, resource_name) = (resource.resource_type, resource.resource_name.clone());
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    IncrementalAlterConfigsResponse { responses: told.collect(), ..Default::default() }
}

fn read(resource: &AlterConfigsResource) -> Asked<'_> {
    let edits = resource.configs.iter().map(|config| (&config.name, edit(config))).collect();
    Asked { kind: resource.resource_type, name: &resource.resource_name, edits }
}

fn edit(config: &AlterableConfig) -> Result<Edit, Refused> {
    let value = || match &config.value {
        Some(value) => Ok(value.to_string()),
        None => Err(no_value(&config.name)),
    };
    match config.config_operation {
        SET => Ok(Edit::Set(value()?)),
        DELETE => Ok(Edit::Delete),
        APPEND => Ok(Edit::Append(value()?)),
        SUBTRACT => Ok(Edit::Subtract(value()?)),
        other => {
            let message = format!(
                "operation {other} of '{}' is none of set (0), delete (1), append (2) and subtract (3)",
                config.name
            );
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        }
    }
}

pub(super) fn no_value(name: &KStr) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, format!("'{name}' has no value; delete it to get the default"))
}
