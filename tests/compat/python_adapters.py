"""Three Python clients behind one small face, so that each goes through the same cases of python_groups.py."""

import asyncio
import threading

import aiokafka
import confluent_kafka
import kafka

TIMEOUT_S = 60


class Confluent:
    """confluent-kafka; further settings go to librdkafka as they are."""

    version = f"confluent-kafka {confluent_kafka.__version__}"

    def __init__(self, address, group, topic, instance=None, settings=()):
        self.topic = topic
        made = {"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        if dict(settings).get("group.protocol") != "consumer":
            made |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
        if instance:
            made["group.instance.id"] = instance
        self.consumer = confluent_kafka.Consumer(made | dict(settings))
        self.consumer.subscribe([topic])

    def poll(self):
        """[(partition, offset, value)] of what came."""
        messages = self.consumer.consume(100, timeout=0.1)
        bad = [message.error() for message in messages if message.error()]
        if bad:
            raise confluent_kafka.KafkaException(bad[0])
        return [(message.partition(), message.offset(), message.value()) for message in messages]

    def commit(self):
        """Commits what was polled."""
        self.consumer.commit(asynchronous=False)

    def committed(self, partition):
        """The committed offset, or None."""
        (found,) = self.consumer.committed([confluent_kafka.TopicPartition(self.topic, partition)], timeout=TIMEOUT_S)
        return None if found.offset < 0 else found.offset

    def assigned(self):
        """The partitions that it owns."""
        return {partition.partition for partition in self.consumer.assignment()}

    def seek(self, partition, offset):
        """Goes to an offset."""
        self.consumer.seek(confluent_kafka.TopicPartition(self.topic, partition, offset))

    def pause(self, partition):
        """Holds back a partition."""
        self.consumer.pause([confluent_kafka.TopicPartition(self.topic, partition)])

    def resume(self, partition):
        """Goes on with it."""
        self.consumer.resume([confluent_kafka.TopicPartition(self.topic, partition)])

    def close(self):
        """Leaves the group."""
        self.consumer.close()


class KafkaPython:
    """kafka-python."""

    version = f"kafka-python {kafka.__version__}"

    def __init__(self, address, group, topic, instance=None, settings=()):
        self.topic = topic
        static = {"group_instance_id": instance} if instance else {}
        self.consumer = kafka.KafkaConsumer(
            topic, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            session_timeout_ms=6000, heartbeat_interval_ms=300, **static, **dict(settings),
        )  # fmt: skip

    def poll(self):
        """[(partition, offset, value)] of what came."""
        batches = self.consumer.poll(timeout_ms=100).values()
        return [(record.partition, record.offset, record.value) for records in batches for record in records]

    def commit(self):
        """Commits what was polled."""
        self.consumer.commit()

    def committed(self, partition):
        """The committed offset, or None."""
        return self.consumer.committed(kafka.TopicPartition(self.topic, partition))

    def assigned(self):
        """The partitions that it owns."""
        return {partition.partition for partition in self.consumer.assignment()}

    def seek(self, partition, offset):
        """Goes to an offset."""
        self.consumer.seek(kafka.TopicPartition(self.topic, partition), offset)

    def pause(self, partition):
        """Holds back a partition."""
        self.consumer.pause(kafka.TopicPartition(self.topic, partition))

    def resume(self, partition):
        """Goes on with it."""
        self.consumer.resume(kafka.TopicPartition(self.topic, partition))

    def close(self):
        """Leaves the group."""
        self.consumer.close()


class Aiokafka:
    """aiokafka, whose coroutines run on a loop in a thread of its own."""

    version = f"aiokafka {aiokafka.__version__}"
    loop = None

    @classmethod
    def wait(cls, coroutine):
        """Runs a coroutine on that loop to its end."""
        if cls.loop is None:
            cls.loop = asyncio.new_event_loop()
            threading.Thread(target=cls.loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, cls.loop).result(TIMEOUT_S * 2)

    @classmethod
    def on_loop(cls, function, *arguments):
        """Calls a plain function of the client where its loop runs."""

        async def call():
            return function(*arguments)

        return cls.wait(call())

    def __init__(self, address, group, topic, instance=None, settings=()):
        self.topic = topic

        async def start():
            consumer = aiokafka.AIOKafkaConsumer(
                topic, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                session_timeout_ms=6000, heartbeat_interval_ms=300, group_instance_id=instance, **dict(settings),
            )  # fmt: skip
            await consumer.start()
            return consumer

        self.consumer = self.wait(start())

    def poll(self):
        """[(partition, offset, value)] of what came."""
        batches = self.wait(self.consumer.getmany(timeout_ms=100)).values()
        return [(record.partition, record.offset, record.value) for records in batches for record in records]

    def commit(self):
        """Commits what was polled."""
        self.wait(self.consumer.commit())

    def committed(self, partition):
        """The committed offset, or None."""
        return self.wait(self.consumer.committed(aiokafka.TopicPartition(self.topic, partition)))

    def assigned(self):
        """The partitions that it owns."""
        return {partition.partition for partition in self.consumer.assignment()}

    def seek(self, partition, offset):
        """Goes to an offset."""
        self.on_loop(self.consumer.seek, aiokafka.TopicPartition(self.topic, partition), offset)

    def pause(self, partition):
        """Holds back a partition."""
        self.on_loop(self.consumer.pause, aiokafka.TopicPartition(self.topic, partition))

    def resume(self, partition):
        """Goes on with it."""
        self.on_loop(self.consumer.resume, aiokafka.TopicPartition(self.topic, partition))

    def close(self):
        """Leaves the group."""
        self.wait(self.consumer.stop())


class Modern(Confluent):
    """confluent-kafka with the group protocol of KIP-848."""

    def __init__(self, address, group, topic, instance=None, settings=()):
        super().__init__(address, group, topic, instance, {"group.protocol": "consumer"} | dict(settings))


CLIENTS = {"confluent": Confluent, "confluent-consumer": Modern, "aiokafka": Aiokafka, "kafka-python": KafkaPython}
