//! Changing settings of topics and brokers while they run.

use millstream_protocol::KStr;
use millstream_protocol::messages::IncrementalAlterConfigsRequest;
use millstream_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};

use super::ConfigResource;
use crate::admin::{Admin, judge, refusal, unanswered};
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};

/// What becomes of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdit {
    /// It gets this value.
    Set(KStr),
    /// Its default holds again.
    Unset,
    /// These words, with commas between them, are added to a list.
    Append(KStr),
    /// These words, with commas between them, are taken out of a list.
    Subtract(KStr),
}

impl ConfigEdit {
    /// As Kafka numbers it, and its value.
    fn parts(self) -> (i8, Option<KStr>) {
        match self {
            Self::Set(value) => (0, Some(value)),
            Self::Unset => (1, None),
            Self::Append(value) => (2, Some(value)),
            Self::Subtract(value) => (3, Some(value)),
        }
    }
}

/// Whether settings are changed, or the broker only says whether they could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterMode {
    /// They are changed.
    Change,
    /// It is only looked at.
    DryRun,
}

/// Why settings were not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AlterConfigsError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(AlterConfigsError);

impl Admin {
    /// Changes settings of a topic or broker, all of them or none. Those that are not named stay.
    ///
    /// ```no_run
    /// # async fn example(admin: millstream_client::Admin) -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::{AlterMode, ConfigEdit, ConfigResource};
    ///
    /// let day = ConfigEdit::Set("86400000".into());
    /// let edits = [("retention.ms".into(), day)];
    /// admin.alter_configs(ConfigResource::Topic("orders"), &edits, AlterMode::Change).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That there is no such topic, broker or setting, or that it refuses or cannot be asked.
    pub async fn alter_configs(
        &self,
        resource: ConfigResource<'_>,
        edits: &[(KStr, ConfigEdit)],
        mode: AlterMode,
    ) -> Result<(), AlterConfigsError> {
        let subject = &|| resource.subject();
        let (resource_type, resource_name, to) = resource.parts();
        let configs = edits.iter().map(|(name, edit)| {
            let (config_operation, value) = edit.clone().parts();
            AlterableConfig { name: name.clone(), config_operation, value }
        });
        let altered = AlterConfigsResource { resource_type, resource_name, configs: configs.collect() };
        let validate_only = mode == AlterMode::DryRun;
        let request = &IncrementalAlterConfigsRequest { resources: vec![altered], validate_only };
        self.retry(async || {
            let connection = self.client.connection(to).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let result = answer.responses.into_iter().next();
            let result = result.ok_or_else(|| AlterConfigsError::Refused(unanswered(subject())))?;
            refusal(result.error_code, result.error_message.as_ref(), subject)
                .map_err(AlterConfigsError::Refused)
        })
        .await
    }
}
