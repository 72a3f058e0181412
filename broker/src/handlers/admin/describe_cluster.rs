//! DescribeCluster, key 60, versions 0 to 2.
//!
//! 1: the client says whether it asks for brokers or for controllers. 2: fenced brokers; there are none.

use std::ops::RangeInclusive;

use millstream_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use millstream_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::authorized::cluster_operations;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) struct DescribeCluster;

impl Handler for DescribeCluster {
    type Request = DescribeClusterRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: DescribeClusterRequest) -> Answer<DescribeClusterResponse> {
        let refuse = |code: ErrorCode, message: &'static str| {
            Answer::Now(DescribeClusterResponse {
                error_code: code.code(),
                error_message: Some(KStr::from_static(message)),
                ..Default::default()
            })
        };
        match request.endpoint_type {
            BROKERS => {}
            CONTROLLERS => {
                return refuse(
                    ErrorCode::MismatchedEndpointType,
                    "this port serves brokers, not controllers",
                );
            }
            _ => {
                return refuse(
                    ErrorCode::UnsupportedEndpointType,
                    "endpoints are brokers (1) or controllers (2)",
                );
            }
        }
        let view = &call.node.view;
        let brokers = view.brokers(call.peer.dialled).into_iter().map(|broker| DescribeClusterBroker {
            broker_id: broker.node.0,
            host: KStr::from(broker.host),
            port: i32::from(broker.port),
            ..Default::default()
        });
        Answer::Now(DescribeClusterResponse {
            cluster_id: KStr::from(view.cluster_id()),
            controller_id: view.controller().0,
            brokers: brokers.collect(),
            cluster_authorized_operations: cluster_operations(request.include_cluster_authorized_operations),
            ..Default::default()
        })
    }
}
