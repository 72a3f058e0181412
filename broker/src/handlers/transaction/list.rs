//! ListTransactions, key 66, versions 0 to 2: all transactional ids, and how their transactions stand.
//!
//! 1: only those that have run longer than so many milliseconds. 2: only those whose id matches a regular expression.

use std::ops::RangeInclusive;

use millstream_protocol::messages::list_transactions_response::TransactionState;
use millstream_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use millstream_protocol::{ErrorCode, KStr};
use regex::Regex;

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::compile_expression;
use crate::transactions::Listed;

/// Every name that a state has in Kafka; the last two are never told.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub(crate) struct ListTransactions;

impl Handler for ListTransactions {
    type Request = ListTransactionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: ListTransactionsRequest) -> Answer<ListTransactionsResponse> {
        let pattern = match request.transactional_id_pattern.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match compile_expression(text) {
                Ok(pattern) => Some(pattern),
                Err(_) => return Answer::Now(refused(ErrorCode::InvalidRegularExpression)),
            },
        };
        let listed = call.node.transactions.list(&call.node);
        Answer::Later(Box::pin(async move {
            match listed.await {
                Ok(listed) => {
                    let now_ms = call.node.clock.now_ms();
                    answer(&Filter { request, pattern, now_ms }, listed)
                }
                Err(not_ready) => refused(not_ready.code()),
            }
        }))
    }
}

/// What is wanted.
struct Filter {
    request: ListTransactionsRequest,
    pattern: Option<Regex>,
    now_ms: i64,
}

impl Filter {
    fn admits(&self, one: &Listed) -> bool {
        let ListTransactionsRequest { state_filters, producer_id_filters, duration_filter, .. } =
            &self.request;
        let has_run_ms = self.now_ms.saturating_sub(one.started_ms);
        (producer_id_filters.is_empty() || producer_id_filters.contains(&one.producer_id))
            && (state_filters.is_empty() || state_filters.iter().any(|name| *name == one.status.name()))
            && (*duration_filter < 0 || has_run_ms > *duration_filter)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&one.id))
    }
}

fn answer(filter: &Filter, listed: Vec<Listed>) -> ListTransactionsResponse {
    let admitted = listed.into_iter().filter(|one| filter.admits(one));
    let transaction_states = admitted.map(|one| TransactionState {
        transactional_id: one.id,
        producer_id: one.producer_id,
        transaction_state: KStr::from_static(one.status.name()),
    });
    let unknown = filter.request.state_filters.iter().filter(|name| !STATES.contains(&name.as_str()));
    ListTransactionsResponse {
        unknown_state_filters: unknown.map(KStr::detach).collect(),
        transaction_states: transaction_states.collect(),
        ..Default::default()
    }
}

fn refused(code: ErrorCode) -> ListTransactionsResponse {
    ListTransactionsResponse { error_code: code.code(), ..Default::default() }
}
