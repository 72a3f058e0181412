"""The command lines of the producers and readers under test. All send to, or read from, partition 0 of a topic."""

from broker import HERE, millstream_binary
from tools import CACHE, PYTHON, java

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
CODEC_IDS = {codec: number for number, codec in enumerate(CODECS)}
TAB = "\t"


def kcat_producer(address, topic, codec, path):
    """kcat reads the file itself."""
    settings = ["-X", "acks=all", "-X", "enable.idempotence=true"]
    return ["kcat", "-P", "-b", address, "-t", topic, "-p", "0", "-K", TAB, "-z", codec, *settings, "-l", path]


def python_producer(address, topic, codec, path):
    """confluent-kafka on the newest librdkafka."""
    return [PYTHON, str(HERE / "text_client.py"), "produce", address, topic, codec, path]


def java_producer(address, topic, codec, path):
    """kafka-clients."""
    return java("TextClient", "produce", address, topic, codec, path)


def millstream_producer(address, topic, codec, path):
    """Our own command line; the file is its standard input, which the shell opens as a user would."""
    words = f'exec "$0" produce "$1" --bootstrap "$2" --compression "$3" --key-separator "$4" --partition 0 --acks all < "$5"'
    return ["sh", "-c", words, millstream_binary(), topic, address, codec, TAB, path]


def kcat_reader(address, topic):
    """Prints what it read as lines of the corpus."""
    return ["kcat", "-C", "-b", address, "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q", "-f", r"%k\t%s\n"]


def python_reader(address, topic):
    """confluent-kafka, assigned, without a group."""
    return [PYTHON, str(HERE / "text_client.py"), "consume", address, topic]


def java_reader(address, topic):
    """kafka-clients, assigned, without a group."""
    return java("TextClient", "consume", address, topic)


def millstream_reader(address, topic):
    """Our own command line."""
    where = ["--bootstrap", address, "--partition", "0", "--from", "start", "--exit-at-end"]
    return [millstream_binary(), "consume", topic, *where, "--format", r"%k\t%v\n"]


def franz_go(verb):
    """The Go program of this name, as producer or reader."""
    return lambda *arguments: [str(CACHE / "franz-go"), verb, *arguments]


def kafkajs(*arguments):
    """KafkaJS, which finds its packages where setup.sh put them."""
    return ["env", f"NODE_PATH={CACHE / 'js' / 'node_modules'}", "node", str(HERE / "js" / "text_client.js"), "produce", *arguments]


def pure_python(client, verb):
    """kafka-python or aiokafka, as producer or reader."""
    return lambda *arguments: [PYTHON, str(HERE / "pure_python.py"), client, verb, *arguments]


# The clients that must work with every codec, in both directions.
PRODUCERS = {
    "kcat": kcat_producer,
    "confluent": python_producer,
    "java": java_producer,
    "millstream": millstream_producer,
}
READERS = {
    "kcat": kcat_reader,
    "confluent": python_reader,
    "java": java_reader,
    "millstream": millstream_reader,
}
# Further ones, with the codecs that all of them know.
OTHER_PRODUCERS = {
    "franz-go": franz_go("produce"),
    "kafkajs": kafkajs,
    "kafka-python": pure_python("kafka-python", "produce"),
    "aiokafka": pure_python("aiokafka", "produce"),
}
OTHER_READERS = {
    "kcat": kcat_reader,
    "franz-go": franz_go("consume"),
    "kafka-python": pure_python("kafka-python", "consume"),
    "aiokafka": pure_python("aiokafka", "consume"),
}
OTHER_CODECS = ["none", "gzip"]


def installed(name):
    """Whether setup.sh could install this client; only some may be missing."""
    needs = {"franz-go": CACHE / "franz-go", "kafkajs": CACHE / "js" / "node_modules"}
    return name not in needs or needs[name].exists()
