//! HTTP for people and Prometheus: `/metrics`, `/healthz`, `/readyz`. Runs on the control plane.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::groups::seen;
use crate::metadata::topics::RecoverySummary;
use crate::metrics::{render_groups, render_transactions};
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
        "\n\n/metrics  for Prometheus\n/healthz  the process is alive\n/readyz   every partition is recovered\n"
    )
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    // While groups are still being read, there is nothing to tell of them.
    let groups = seen::survey(&node).await.unwrap_or_default();
    let rebalances = node.groups.seen().rebalances();
    // Some of it is read off the disk, which may hang; what is asked here beside it must not.
    let transactions = &node.transactions;
    let transactions =
        render_transactions(&transactions.standing(&node), transactions.counts(), node.clock.now_ms());
    let control = node.control.clone();
    let rendering = control.spawn_blocking(move || {
        node.metrics.render(&node.topics) + &render_groups(&groups, &rebalances) + &transactions
    });
    let text = rendering.await.expect("rendering does not panic");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Alive: this answers as long as the control plane turns.
async fn healthy() -> &'static str {
    "ok\n"
}

/// Ready: every partition is open, or cannot be opened. Clients are served earlier, with what is open.
async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, String) {
    let recovery = node.topics.recovery();
    let text = match (node.is_stopping(), recovery.is_over(), recovery.summary()) {
        (true, _, _) => "stopping\n".to_owned(),
        (false, false, now) => {
            format!("recovering: {} of {} partitions\n", now.opened + now.failed, now.partitions)
        }
        (false, true, RecoverySummary { failed: 0, .. }) => return (StatusCode::OK, "ready\n".to_owned()),
        (false, true, now) => {
            let text =
                format!("ready, but {} of {} partitions cannot be opened\n", now.failed, now.partitions);
            return (StatusCode::OK, text);
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, text)
}
