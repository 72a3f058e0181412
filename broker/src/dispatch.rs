//! One table: which API, which versions, which handler. What is not in it is neither advertised nor served.

#[cfg(feature = "fault-hooks")]
pub(crate) mod faults;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use millstream_protocol::messages::ApiVersionsResponse;
use millstream_protocol::wire::{DecodeError, EncodeError, Reader};
use millstream_protocol::{ApiKey, Chunk, ErrorCode, KStr, Request, encode_response};

use crate::connection::session::Incoming;
use crate::handlers;
use crate::metadata::cluster_view::Dialled;
use crate::node::Node;

/// A future of a handler, polled by the connection that asked.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who asks: shared by all requests of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The client's end of the connection; of a client in this process, some address of this machine.
    pub(crate) address: SocketAddr,
    /// Our end, as the client dialled it: what the client is told to connect to.
    pub(crate) dialled: Dialled,
}

/// What a peer does until it is answered, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// It waits, as it did before: its connection has nothing else to do.
    Waits,
    /// It may have sent more.
    Sends,
}

/// Everything that a handler is given besides the decoded request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) node: Arc<Node>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) version: i16,
    pub(crate) meanwhile: Meanwhile,
    /// What the client calls itself, often nothing. Lives in the frame.
    pub(crate) client_id: KStr,
}

/// What a handler answers.
pub(crate) enum Answer<M> {
    Now(M),
    /// Work goes on; replies of later requests wait behind it.
    Later(Boxed<M>),
    /// Produce with `acks=0` gets no reply.
    Silent,
    /// The connection is closed, with the reason for the log.
    Close(String),
}

impl<M: Send + 'static> Answer<M> {
    /// Runs `work`, which may block on the disk, on the control plane: a slow disk delays this reply only.
    pub(crate) fn blocking(call: &Call, work: impl FnOnce() -> M + Send + 'static) -> Self {
        let running = call.node.control.spawn_blocking(work);
        Self::Later(Box::pin(async move { running.await.expect("a handler does not panic") }))
    }
}

/// One API: the versions it serves and what it does. Each file in `handlers` has one.
pub(crate) trait Handler {
    type Request: Request + Send;
    /// Versions that are served.
    const VERSIONS: RangeInclusive<i16>;
    /// The lowest version that ApiVersions names. Lower than what is served only where old clients draw
    /// wrong conclusions from the truth (Produce).
    const ADVERTISED_MIN: i16 = *Self::VERSIONS.start();

    fn handle(call: Call, request: Self::Request) -> Answer<<Self::Request as Request>::Response>;
}

/// What becomes of a request, in bytes.
pub(crate) enum Outcome {
    Reply(Vec<Chunk>),
    Later(Boxed<Outcome>),
    Silent,
    Close(String),
}

/// A row of the table.
pub(crate) struct Route {
    pub(crate) api: ApiKey,
    pub(crate) advertised_min: i16,
    pub(crate) versions: RangeInclusive<i16>,
    run: fn(Call, &Incoming) -> Result<Outcome, DecodeError>,
}

const fn route<H: Handler>() -> Route {
    Route {
        api: <H::Request as Request>::KEY,
        advertised_min: H::ADVERTISED_MIN,
        versions: H::VERSIONS,
        run: run::<H>,
    }
}

/// Every API that this broker serves.
pub(crate) static ROUTES: &[Route] = &[
    route::<handlers::produce::Produce>(),
    route::<handlers::fetch::Fetch>(),
    route::<handlers::list_offsets::ListOffsets>(),
    route::<handlers::metadata::Metadata>(),
    route::<handlers::group::offset_commit::OffsetCommit>(),
    route::<handlers::group::offset_fetch::OffsetFetch>(),
    route::<handlers::group::find_coordinator::FindCoordinator>(),
    route::<handlers::api_versions::ApiVersions>(),
    route::<handlers::admin::create_topics::CreateTopics>(),
    route::<handlers::admin::delete_topics::DeleteTopics>(),
    route::<handlers::admin::delete_records::DeleteRecords>(),
    route::<handlers::init_producer_id::InitProducerId>(),
    route::<handlers::transaction::add_partitions::AddPartitionsToTxn>(),
    route::<handlers::transaction::add_offsets::AddOffsetsToTxn>(),
    route::<handlers::transaction::end_txn::EndTxn>(),
    route::<handlers::transaction::describe::DescribeTransactions>(),
    route::<handlers::transaction::list::ListTransactions>(),
    route::<handlers::group::join::JoinGroup>(),
    route::<handlers::group::heartbeat::Heartbeat>(),
    route::<handlers::group::leave::LeaveGroup>(),
    route::<handlers::group::sync::SyncGroup>(),
    route::<handlers::group::describe::DescribeGroups>(),
    route::<handlers::group::list::ListGroups>(),
    route::<handlers::group::consumer_group_heartbeat::ConsumerGroupHeartbeat>(),
    route::<handlers::group::consumer_group_describe::ConsumerGroupDescribe>(),
    route::<handlers::group::delete::DeleteGroups>(),
    route::<handlers::offset_for_leader_epoch::OffsetForLeaderEpoch>(),
    route::<handlers::admin::configs::describe::DescribeConfigs>(),
    route::<handlers::admin::configs::alter::AlterConfigs>(),
    route::<handlers::admin::configs::incremental_alter::IncrementalAlterConfigs>(),
    route::<handlers::admin::configs::list::ListConfigResources>(),
    route::<handlers::admin::describe_log_dirs::DescribeLogDirs>(),
    route::<handlers::admin::create_partitions::CreatePartitions>(),
    route::<handlers::group::offset_delete::OffsetDelete>(),
    route::<handlers::admin::describe_cluster::DescribeCluster>(),
    route::<handlers::admin::describe_producers::DescribeProducers>(),
    route::<handlers::admin::placement::elect_leaders::ElectLeaders>(),
    route::<handlers::admin::placement::alter_reassignments::AlterPartitionReassignments>(),
    route::<handlers::admin::placement::list_reassignments::ListPartitionReassignments>(),
    route::<handlers::admin::controller::describe_quorum::DescribeQuorum>(),
    route::<handlers::admin::controller::update_features::UpdateFeatures>(),
    route::<handlers::describe_topic_partitions::DescribeTopicPartitions>(),
    route::<handlers::admin::compact_logs::CompactLogs>(),
    route::<handlers::admin::describe_storage::DescribeStorage>(),
    route::<handlers::transaction::txn_offset_commit::TxnOffsetCommit>(),
    route::<handlers::transaction::write_txn_markers::WriteTxnMarkers>(),
    route::<handlers::group::describe_lag::DescribeGroupLag>(),
];

/// Answers one request.
pub(crate) fn dispatch(
    node: &Arc<Node>,
    peer: &Arc<Peer>,
    incoming: &Incoming,
    meanwhile: Meanwhile,
) -> Outcome {
    let (api, version) = (incoming.api, incoming.version);
    let Some(route) = ROUTES.iter().find(|route| route.api == api) else {
        return Outcome::Close(format!("{} is not served by this version of Millstream", api.name()));
    };
    if !route.versions.contains(&version) {
        return unsupported_version(route, incoming);
    }
    let client_id = incoming.header.client_id.clone().unwrap_or_default();
    let call = Call { node: Arc::clone(node), peer: Arc::clone(peer), version, meanwhile, client_id };
    (route.run)(call, incoming).unwrap_or_else(|error| {
        Outcome::Close(format!("{} version {version} cannot be read: {error}", api.name()))
    })
}

/// An unknown ApiVersions version is answered in version 0, so that a newer client can step down
/// (KIP-511); any other unknown version closes the connection, as in Kafka.
fn unsupported_version(route: &Route, incoming: &Incoming) -> Outcome {
    let (api, version) = (incoming.api, incoming.version);
    if api == ApiKey::ApiVersions {
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..handlers::api_versions::served()
        };
        return reply(api, 0, incoming.header.correlation_id, &response);
    }
    let (min, max) = (route.versions.start(), route.versions.end());
    Outcome::Close(format!("{} version {version} is not served; versions {min} to {max} are", api.name()))
}

fn run<H: Handler>(call: Call, incoming: &Incoming) -> Result<Outcome, DecodeError> {
    let body = incoming.body();
    let mut reader = Reader::new(&body);
    let version = call.version;
    let request = <H::Request as millstream_protocol::Message>::decode(&mut reader, version)?;
    // Bytes may follow, as in Kafka: librdkafka asks for the metadata of all topics with three of them.
    let api = incoming.api;
    let correlation_id = incoming.header.correlation_id;
    Ok(match H::handle(call, request) {
        Answer::Now(response) => reply(api, version, correlation_id, &response),
        Answer::Later(work) => {
            Outcome::Later(Box::pin(async move { reply(api, version, correlation_id, &work.await) }))
        }
        Answer::Silent => Outcome::Silent,
        Answer::Close(reason) => Outcome::Close(reason),
    })
}

fn reply<M: millstream_protocol::Message>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Outcome {
    match encode_response(api, version, correlation_id, response) {
        Ok(chunks) => Outcome::Reply(chunks),
        Err(error) => {
            let error: EncodeError = error;
            Outcome::Close(format!("the reply to {} cannot be encoded: {error}", api.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_stays_inside_the_versions_that_the_schema_defines() {
        for route in ROUTES {
            let defined = route.api.min_version()..=route.api.max_version();
            assert!(defined.contains(route.versions.start()), "{}", route.api.name());
            assert!(defined.contains(route.versions.end()), "{}", route.api.name());
            assert!(route.advertised_min <= *route.versions.start());
        }
    }

    #[test]
    fn no_api_has_two_routes() {
        for (at, route) in ROUTES.iter().enumerate() {
            assert!(ROUTES[..at].iter().all(|other| other.api != route.api), "{}", route.api.name());
        }
    }
}
