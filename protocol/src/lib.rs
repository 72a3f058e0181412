//! The bytes of Kafka: requests, responses, record batches and error codes. Sans-io.
