//! The broker as a library: sockets, sessions, handlers, partitions, metadata.
