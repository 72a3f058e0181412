//! HTTP for people and Prometheus: `/metrics`, `/healthz`, `/readyz`. Runs on the control plane.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::node::Node;

/// Serves until `node` stops.
pub(crate) async fn serve(listener: tokio::net::TcpListener, node: Arc<Node>) {
    let stopped = node.stopped();
    let routes = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(node);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the HTTP port stopped serving");
    }
}

async fn index() -> &'static str {
    concat!(
        "Millstream ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/metrics  for Prometheus\n/healthz  the process is alive\n/readyz   Kafka clients are served\n"
    )
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let text = node.metrics.render(&node.topics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Alive: this answers as long as the control plane turns.
async fn healthy() -> &'static str {
    "ok\n"
}

/// Ready: partitions are recovered before the ports open, so only a broker that stops is not.
async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, &'static str) {
    match node.is_stopping() {
        false => (StatusCode::OK, "ready\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
