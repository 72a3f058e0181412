//! What both AlterConfigs APIs share: a resource is named once, its keys once, and each resource has its own
//! result.

use std::collections::{HashMap, HashSet};

use millstream_protocol::{ErrorCode, KStr};

use super::resource::{Resource, named_twice};
use crate::dispatch::Call;
use crate::handlers::admin::refused::Refused;
use crate::handlers::wire_errors::code_for_store;
use crate::metadata::live_settings::{ChangeError, Intent};
use crate::settings::{Edit, Edits, Kept, Layer, SettingError};

/// A resource with what is to become of its settings.
pub(super) struct Asked<'a> {
    pub(super) kind: i8,
    pub(super) name: &'a KStr,
    /// Each with its edit; one that cannot be read is refused with its resource.
    pub(super) edits: Vec<(&'a KStr, Result<Edit, Refused>)>,
}

/// Kafka's flag, named.
pub(super) fn intent(validate_only: bool) -> Intent {
    match validate_only {
        true => Intent::Check,
        false => Intent::Change,
    }
}

/// Changes one resource after the other. Blocks on the disk.
pub(super) fn change_all(
    call: &Call,
    asked: Vec<Asked<'_>>,
    kept: Kept,
    intent: Intent,
) -> Vec<Result<(), Refused>> {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for one in &asked {
        *times.entry((one.kind, one.name)).or_default() += 1;
    }
    let is_twice: Vec<bool> = asked.iter().map(|one| times[&(one.kind, &**one.name)] > 1).collect();
    let changed = asked.into_iter().zip(is_twice).map(|(one, is_twice)| match is_twice {
        true => Err(named_twice()),
        false => change(call, one, kept, intent),
    });
    changed.collect()
}

fn change(call: &Call, asked: Asked<'_>, kept: Kept, intent: Intent) -> Result<(), Refused> {
    let mut names = HashSet::new();
    if let Some((twice, _)) = asked.edits.iter().find(|(name, _)| !names.insert(&***name)) {
        let message = format!("the request names '{twice}' more than once");
        return Err(Refused::new(ErrorCode::InvalidRequest, message));
    }
    let resource = Resource::read(call, asked.kind, asked.name)?;
    let read = |(name, edit): (&KStr, Result<Edit, Refused>)| Ok((name.to_string(), edit?));
    let edits = Edits { kept, each: asked.edits.into_iter().map(read).collect::<Result<_, Refused>>()? };
    let node = &call.node;
    match resource {
        Resource::Topic(name) => {
            Ok(node.topics.configure(name, intent, |written| edits.of_topic(written))?)
        }
        Resource::Group(id) => {
            let changed = node.settings.change_group(id, intent, |written| edits.of_group(written));
            changed.map_err(|error| {
                let code = match &error {
                    ChangeError::Setting(_) | ChangeError::Topic { .. } => ErrorCode::InvalidConfig,
                    ChangeError::Store(error) => code_for_store(error),
                };
                Refused::new(code, error.to_string())
            })
        }
        Resource::AllBrokers => change_broker(call, Layer::AllBrokers, &edits, intent),
        Resource::ThisBroker => change_broker(call, Layer::ThisBroker, &edits, intent),
    }
}

fn change_broker(call: &Call, layer: Layer, edits: &Edits, intent: Intent) -> Result<(), Refused> {
    let node = &call.node;
    let changed =
        node.settings.change(layer, &node.topics, intent, |now| edits.of_broker(layer, &now.layers));
    changed.map_err(|error| {
        let code = match &error {
            // As in Kafka: this one is told like a topic's, all others are the request's fault.
            ChangeError::Setting(SettingError::NoList { .. }) => ErrorCode::InvalidConfig,
            ChangeError::Setting(_) | ChangeError::Topic { .. } => ErrorCode::InvalidRequest,
            ChangeError::Store(error) => code_for_store(error),
        };
        Refused::new(code, error.to_string())
    })
}
