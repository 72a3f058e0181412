//! A real broker on a free port, spoken to in raw frames.

#[cfg(test)]
mod wire {
    mod admin;
    mod bad_transactions;
    mod bed;
    mod classic;
    mod committed;
    mod configs;
    mod consumer;
    mod deletion;
    mod fetch;
    mod hostile;
    mod lifecycle;
    mod long_poll;
    mod offsets;
    mod placement;
    mod produce;
    mod storage;
    mod versions;
}
