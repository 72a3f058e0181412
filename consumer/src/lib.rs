//! A consumer: records of assigned partitions as a stream.
