#!/usr/bin/env bash
# What librdkafka's tests call, by way of their java/run-class.sh, to run a Java program of theirs: CLASSPATH says where it is.
jars=${FOREIGN_CACHE:-$HOME/.cache/millstream/foreign}/jars
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$CLASSPATH:$jars/*" "$@"
