#!/usr/bin/env bash
# Stands in for Kafka's script of this name where librdkafka's tests call it: creates a topic through our own command line.
set -euo pipefail
words=()
while [ $# -gt 0 ]; do
  case $1 in
  --bootstrap-server) words+=(--bootstrap "$2") && shift ;;
  --create) words=(topic create "${words[@]}") ;;
  --topic) words+=("$2") && shift ;;
  --replication-factor) shift ;; # always 1 here
  --partitions | --config) words+=("$1" "$2") && shift ;;
  *) echo "kafka-topics.sh: '$1' is not understood here" >&2 && exit 2 ;;
  esac
  shift
done
exec "${FOREIGN_MILLSTREAM:-"$(dirname "$0")/../../../../target/release/millstream"}" "${words[@]}"
