//! Reaching a broker, for all commands that are clients.

use std::future::Future;

use anyhow::{Context, anyhow};
use clap::Args;
use millstream_client::{Client, ClientError, To};
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::MetadataRequest;
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use tokio::sync::oneshot;

use crate::logging;

/// Where a broker listens unless told otherwise.
pub(crate) const BOOTSTRAP_DEFAULT: &str = "127.0.0.1:9092";

/// Where the broker is.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Broker to ask, or several, separated by commas
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = BOOTSTRAP_DEFAULT
    )]
    bootstrap: String,
}

impl BrokerArgs {
    /// Connects; a broker that is not there is told at once, not after a row of attempts.
    ///
    /// # Errors
    /// Says which address did not answer, and how to start a broker.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let connected = Client::builder(&self.bootstrap).client_id("millstream-cli").connect().await;
        connected.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: ClientError) -> anyhow::Error {
        match &error {
            ClientError::Unreachable { attempts } => {
                let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
                anyhow!(
                    "no broker answers ({}); is one running? start one with `millstream`, or name another with \
                     --bootstrap HOST:PORT",
                    attempts.join(", ")
                )
            }
            _ => {
                anyhow::Error::new(error).context(format!("the broker at {} cannot be used", self.bootstrap))
            }
        }
    }
}

/// Runs a client command to its end.
///
/// # Errors
/// What the command says.
pub(crate) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    logging::start_for_client();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("threads cannot be started")?;
    let result = runtime.block_on(command);
    // A reader of standard input may be stuck in its system call; nobody waits for it.
    runtime.shutdown_background();
    result
}

/// Ends at the first Ctrl-C. The second one ends the process, even while this thread is stuck in writing to a
/// pipe that nobody reads. Must be called inside the runtime.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        // If nobody listens any more, the command is past the point where it could end well.
        if tell.send(()).is_ok() {
            let _ = tokio::signal::ctrl_c().await;
        }
        std::process::exit(130);
    });
    async move {
        if told.await.is_err() {
            // No handler could be installed: then the system ends the process, as it does by default.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether there is a topic of this name, asked once and without making it. The client itself asks for a second
/// before it says no, because in a cluster a new topic takes a while to be known; a person does not wait.
///
/// # Errors
/// When the broker cannot be asked.
pub(crate) async fn topic_exists(client: &Client, name: &str) -> anyhow::Result<bool> {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
    let answer = client.request(request, To::Any).await?;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    Ok(answer.topics.iter().all(|topic| topic.error_code != unknown))
}

/// What to do about a topic that is not there.
pub(crate) fn unknown_topic(topic: &str) -> String {
    format!(
        "there is no topic {topic:?}; see `millstream topic list`, or make it with `millstream topic create {topic}`"
    )
}
