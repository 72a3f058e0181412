#!/usr/bin/env bash
# Apache Kafka in the foreground, one node, from the jars that setup.sh fetched: apache-kafka.sh PORT FOLDER [KEY=VALUE...]
set -euo pipefail
jars=${FOREIGN_CACHE:-$HOME/.cache/millstream/foreign}/jars
port=$1 folder=$2
shift 2
mkdir -p "$folder"
cat >"$folder/server.properties" <<END
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$((port + 1))
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$folder/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
END
printf '%s\n' "$@" >>"$folder/server.properties"
java=(java -Xmx512m -Xms256m -XX:TieredStopAtLevel=1 -cp "$jars/*")
if [ ! -e "$folder/logs/meta.properties" ]; then
  "${java[@]}" kafka.tools.StorageTool format --standalone -t MkU3OEVBNTcwNTJENDM2Qk -c "$folder/server.properties"
fi
exec "${java[@]}" kafka.Kafka "$folder/server.properties"
