"""Sends the lines of a file ("key TAB value") to partition 0 of a topic, or prints that partition as such lines.

confluent-kafka's half of the matrix; java/TextClient.java is the Java half.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition


def produce(bootstrap, topic, codec, path):
    """Everything but the codec and idempotence is the client's default (acks=all)."""
    failures = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "enable.idempotence": True,
        }
    )

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    with open(path, "rb") as lines:
        for line in lines:
            key, value = line.rstrip(b"\n").split(b"\t", 1)
            while True:
                try:
                    producer.produce(topic, value, key, partition=0, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
    left = producer.flush(60)
    if left or failures:
        sys.exit(f"{left} records undelivered, {len(failures)} failed: {failures[:1]}")


def consume(bootstrap, topic):
    """Reads from the first offset to the end that the broker names now; no group is joined."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )
    first, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
    consumer.assign([TopicPartition(topic, 0, first)])
    out = sys.stdout.buffer
    position = first
    deadline = time.monotonic() + 120
    while position < end and time.monotonic() < deadline:
        # Answers when it has so many records, or after the timeout: near the end that is the timeout.
        for message in consumer.consume(10_000, timeout=0.1):
            if message.error():
                raise KafkaException(message.error())
            out.write(message.key() + b"\t" + message.value() + b"\n")
            position = message.offset() + 1
    consumer.close()
    if position < end:
        sys.exit(f"no more came after offset {position} of {end}")


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
