#!/usr/bin/env bash
# What librdkafka's tests call as $KAFKA_PATH/bin/kafka-topics.sh: the same tool, from the jars that setup.sh fetched.
jars=${FOREIGN_CACHE:-$HOME/.cache/millstream/foreign}/jars
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" org.apache.kafka.tools.TopicCommand "$@"
