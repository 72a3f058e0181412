//! What producer, consumer and ops share: connections, negotiation, metadata, retry, admin.
