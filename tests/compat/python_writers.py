"""Transactional producers of three Python clients behind one small face, so that each goes through the same cases of
python_transactions.py. Consumers are those of python_adapters.py."""

import aiokafka
import confluent_kafka
import kafka
from kafka.structs import OffsetAndMetadata

from python_adapters import TIMEOUT_S, Aiokafka, Confluent, KafkaPython


class ConfluentWriter:
    """confluent-kafka."""

    reader = Confluent
    committed_only = {"isolation.level": "read_committed"}

    def __init__(self, address, identity, timeout_ms=60_000):
        settings = {"bootstrap.servers": address, "transactional.id": identity, "transaction.timeout.ms": timeout_ms, "log_level": 0}
        self.producer = confluent_kafka.Producer(settings)
        self.producer.init_transactions(TIMEOUT_S)

    def begin(self):
        """Begins a transaction."""
        self.producer.begin_transaction()

    def write(self, topic, partition, values):
        """Sends values and waits until they are written."""
        failed = []
        for value in values:
            self.producer.produce(topic, value.encode(), partition=partition, on_delivery=lambda error, _: error and failed.append(error))
        self.producer.flush(TIMEOUT_S)
        if failed:
            raise confluent_kafka.KafkaException(failed[0])

    def offsets(self, reader, group, topic, partition, offset):
        """Adds an offset to the transaction."""
        metadata = reader.consumer.consumer_group_metadata()
        self.producer.send_offsets_to_transaction([confluent_kafka.TopicPartition(topic, partition, offset)], metadata, TIMEOUT_S)

    def commit(self):
        """Commits."""
        self.producer.commit_transaction(TIMEOUT_S)

    def abort(self):
        """Aborts."""
        self.producer.abort_transaction(TIMEOUT_S)

    def close(self):
        """Goes away, without a word about an open transaction."""
        self.producer = None


class KafkaPythonWriter:
    """kafka-python."""

    reader = KafkaPython
    committed_only = {"isolation_level": "read_committed"}

    def __init__(self, address, identity, timeout_ms=60_000):
        self.producer = kafka.KafkaProducer(bootstrap_servers=address, transactional_id=identity, transaction_timeout_ms=timeout_ms)
        self.producer.init_transactions()

    def begin(self):
        """Begins a transaction."""
        self.producer.begin_transaction()

    def write(self, topic, partition, values):
        """Sends values and waits until they are written."""
        sent = [self.producer.send(topic, value.encode(), partition=partition) for value in values]
        for each in sent:
            each.get(TIMEOUT_S)

    def offsets(self, reader, group, topic, partition, offset):
        """Adds an offset to the transaction."""
        offsets = {kafka.TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        self.producer.send_offsets_to_transaction(offsets, reader.consumer.group_metadata())

    def commit(self):
        """Commits."""
        self.producer.commit_transaction()

    def abort(self):
        """Aborts."""
        self.producer.abort_transaction()

    def close(self):
        """Goes away."""
        self.producer.close(timeout=1)


class AiokafkaWriter:
    """aiokafka."""

    reader = Aiokafka
    committed_only = {"isolation_level": "read_committed"}

    def __init__(self, address, identity, timeout_ms=60_000):
        async def start():
            producer = aiokafka.AIOKafkaProducer(bootstrap_servers=address, transactional_id=identity, transaction_timeout_ms=timeout_ms)
            await producer.start()
            return producer

        self.producer = Aiokafka.wait(start())

    def begin(self):
        """Begins a transaction."""
        Aiokafka.wait(self.producer.begin_transaction())

    def write(self, topic, partition, values):
        """Sends values and waits until they are written."""
        for value in values:
            Aiokafka.wait(self.producer.send_and_wait(topic, value.encode(), partition=partition))

    def offsets(self, reader, group, topic, partition, offset):
        """Adds an offset to the transaction."""
        Aiokafka.wait(self.producer.send_offsets_to_transaction({aiokafka.TopicPartition(topic, partition): offset}, group))

    def commit(self):
        """Commits."""
        Aiokafka.wait(self.producer.commit_transaction())

    def abort(self):
        """Aborts."""
        Aiokafka.wait(self.producer.abort_transaction())

    def close(self):
        """Goes away; it aborts what it left open."""
        Aiokafka.wait(self.producer.stop())


WRITERS = {"confluent": ConfluentWriter, "aiokafka": AiokafkaWriter, "kafka-python": KafkaPythonWriter}
