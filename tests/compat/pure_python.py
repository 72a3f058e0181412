"""The same as text_client.py with the clients that are written in Python: kafka-python and aiokafka."""

import asyncio
import sys

import aiokafka
import kafka


def lines(path):
    """(key, value) of each line of a file."""
    with open(path, "rb") as file:
        for line in file:
            yield line.rstrip(b"\n").split(b"\t", 1)


def show(record):
    """Prints a record as such a line."""
    sys.stdout.buffer.write(record.key + b"\t" + record.value + b"\n")


def codec_name(codec):
    """Both clients call no compression None."""
    return None if codec == "none" else codec


def kafka_python_produce(address, topic, codec, path):
    """kafka-python: send all, then look at each result."""
    producer = kafka.KafkaProducer(bootstrap_servers=address, compression_type=codec_name(codec), acks="all")
    sent = [producer.send(topic, value, key, partition=0) for key, value in lines(path)]
    producer.flush(60)
    for future in sent:
        future.get(timeout=60)
    producer.close()


def kafka_python_consume(address, topic):
    """kafka-python, assigned."""
    consumer = kafka.KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    partition = kafka.TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    while consumer.position(partition) < end:
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                show(record)
    consumer.close()


async def aiokafka_produce(address, topic, codec, path):
    """aiokafka with idempotence."""
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=address, compression_type=codec_name(codec), enable_idempotence=True
    )
    await producer.start()
    sent = [await producer.send(topic, value, key, partition=0) for key, value in lines(path)]
    await asyncio.gather(*sent)
    await producer.stop()


async def aiokafka_consume(address, topic):
    """aiokafka, assigned."""
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    await consumer.start()
    partition = aiokafka.TopicPartition(topic, 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    end = (await consumer.end_offsets([partition]))[partition]
    while await consumer.position(partition) < end:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                show(record)
    await consumer.stop()


def main(client, verb, *arguments):
    """pure_python.py kafka-python|aiokafka produce|consume ..."""
    if client == "kafka-python":
        (kafka_python_produce if verb == "produce" else kafka_python_consume)(*arguments)
    else:
        asyncio.run((aiokafka_produce if verb == "produce" else aiokafka_consume)(*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
