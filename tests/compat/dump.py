"""Kafka's own DumpLogSegments reads our segment and index files and finds nothing wrong with them.

The files come from a broker with small segments, so that there are several; one kill and one graceful stop lie between, so that
recovered, rebuilt and cleanly closed files are all among them. A second topic is compacted: there its gaps, its batches
without a record and its delete horizons have to be accepted. A third has transactions, some of them aborted: what the tool
reads in the indexes of those is what it reads in the logs. `millstream log verify` reads the same folders; with
`--broker kafka` these are files that Kafka wrote, and nothing is compacted.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

from confluent_kafka import Producer

import corpus
from broker import add_broker_option, millstream_binary, running
from clients import CODECS, PRODUCERS
from tools import java

SETTINGS = {"num.partitions": 1, "log.segment.bytes": 1 << 20}
TOPIC = "dumped"
# What the tool prints when it finds an index that contradicts its log, or a batch that is damaged.
COMPLAINTS = r"(?i)mismatch|out of order|isvalid: false|corrupt|invalid|is followed by|exception|could not|truncat"
# It expects each file to begin at offset 0, whatever its name is; that one line says nothing.
FIRST_OFFSET = "-1 is followed by"


def dump(files, *options):
    """Runs the tool over these files; answers what it said, on both outputs."""
    command = java("org.apache.kafka.tools.DumpLogSegments", *options, "--files", ",".join(map(str, files)))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True, errors="replace")
    said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("SLF4J"))
    if done.returncode != 0:
        raise SystemExit(f"DumpLogSegments ended with {done.returncode}:\n{said[-3000:]}")
    return said


def complaints(said):
    """Lines in which the tool complains; `isvalid: true` is not one of them."""
    lines = (line for line in said.splitlines() if "| offset:" not in line and FIRST_OFFSET not in line)
    return [line for line in lines if re.search(COMPLAINTS, line.replace("isvalid: true", ""))]


def fill(broker, path):
    """Two rounds of every codec, one before a kill and one after it, then a graceful stop; answers how often it sent the file."""
    for _round in range(2):
        for codec in CODECS:
            command = PRODUCERS["kcat"](broker.address, TOPIC, codec, str(path))
            # Small batches, so that the sparse indexes get entries.
            command[1:1] = ["-X", "batch.num.messages=20"]
            subprocess.run(command, check=True, timeout=300)
        if _round == 0:
            broker.kill()
            broker.start()
    broker.stop()
    return 2 * len(CODECS)


COMPACTED = "compacted"
COMPACTED_SETTINGS = {"cleanup.policy": "compact", "segment.bytes": 1 << 16, "min.compaction.lag.ms": 0}
KEYS = 400
# In a compacted log offsets have gaps; the tool mentions each.
GAPS = r"is followed by|Non-consecutive offsets"


def fill_compacted(broker):
    """Every key three times over, then a quarter of them deleted, then others, and compaction; the broker is stopped."""

    def own(*arguments, text=""):
        command = [millstream_binary(), *arguments, "--bootstrap", broker.address]
        subprocess.run(command, check=True, timeout=300, input=text, text=True, stdout=subprocess.DEVNULL)

    configs = [word for key, value in COMPACTED_SETTINGS.items() for word in ("--config", f"{key}={value}")]
    own("topic", "create", COMPACTED, "--partitions", "1", *configs)
    for turn in range(3):
        # A producer of its own each time: all records of its last batch are replaced, its sequence has to stay.
        lines = "".join(f"k{key}:{turn}-{'v' * 100}\n" for key in range(KEYS))
        own("produce", COMPACTED, "--key-separator", ":", "--batch-bytes", "4096", text=lines)
    deleted = "".join(f"k{key}:\n" for key in range(KEYS // 4))
    kcat = ["kcat", "-P", "-b", broker.address, "-t", COMPACTED, "-p", "0", "-K", ":", "-Z", "-X", "acks=all"]
    subprocess.run(kcat, check=True, timeout=300, input=deleted, text=True)
    others = "".join(f"z{key}:{'v' * 100}\n" for key in range(2 * KEYS))
    own("produce", COMPACTED, "--key-separator", ":", "--batch-bytes", "4096", text=others)
    own("topic", "compact", COMPACTED)
    broker.stop()


def check_compacted():
    """Whether Kafka's tool accepts what compaction leaves, and whether all of it was there to be accepted."""
    with running("millstream", SETTINGS) as broker:
        fill_compacted(broker)
        logs = sorted(broker.segments())
        indexes = sorted(index for log in logs for suffix in (".index", ".timeindex", ".txnindex") if (index := log.with_suffix(suffix)).exists())
        said = dump([*logs, *indexes], "--deep-iteration")
        sane = dump(indexes, "--index-sanity-check")
        own = subprocess.run([millstream_binary(), "log", "verify", "--records", str(broker.data)], check=False).returncode
    lines = "\n".join(line for line in said.splitlines() if not re.search(GAPS, line))
    wrong = complaints(lines) + complaints(sane)
    for line in wrong[:20]:
        print(f"WRONG {line[:300]}")
    records = len(re.findall(r"^\s*\| offset:", said, re.M))
    empty = len(re.findall(r"^baseOffset:.* count: 0 ", said, re.M))
    horizons = len(re.findall(r"deleteHorizonMs: OptionalLong\[", said))
    gaps = len(re.findall(r"is followed by", said))
    print(
        f"dump: compacted to {records} of {3 * KEYS + KEYS // 4 + 2 * KEYS} records in {len(logs)} segments, {gaps} gaps, "
        f"{empty} empty batches, {horizons} delete horizons, {len(wrong)} complaints"
    )
    return own == 0 and not wrong and empty > 0 and horizons > 0 and gaps > 0


TRANSACTIONS = 40


def fill_transactions(broker):
    """Two producers whose transactions interleave, every third aborted, a kill in the middle; the broker is stopped."""
    common = {"bootstrap.servers": broker.address, "linger.ms": 0, "log_level": 0}
    producers = [Producer(common | {"transactional.id": f"dumped-{number}"}) for number in range(2)]
    for producer in producers:
        producer.init_transactions(30)
    for turn in range(TRANSACTIONS):
        for producer in producers:
            producer.begin_transaction()
        for part in range(3):
            for producer in producers:
                producer.produce("transactions", f"{turn}-{part}-{'v' * 9000}", partition=0)
                producer.flush(30)
        if turn == TRANSACTIONS // 2:
            broker.kill()
            broker.start()
        for number, producer in enumerate(producers):
            if (turn + number) % 3 == 0:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)
    broker.stop()
    return sum((turn + number) % 3 == 0 for turn in range(TRANSACTIONS) for number in range(2))


def check_transactions(kind):
    """Whether Kafka's tool reads the same aborted transactions in the indexes as in the logs."""
    with running(kind, SETTINGS) as broker:
        aborts = fill_transactions(broker)
        indexes = sorted(index for index in broker.data.rglob("0*.txnindex") if index.stat().st_size > 0)
        logs = sorted(log for index in indexes for log in index.parent.glob("0*.log"))
        told = dump(indexes)
        said = dump(sorted(set(logs)), "--deep-iteration")
        own = subprocess.run([millstream_binary(), "log", "verify", "--records", str(broker.data)], check=False).returncode
    entry = r"^version: 0 producerId: (\d+) firstOffset: (\d+) lastOffset: (\d+) lastStableOffset: (\d+)"
    entries = [tuple(map(int, found)) for found in re.findall(entry, told, re.M)]
    begins = set(re.findall(r"^baseOffset: (\d+) .*producerId: (\d+) .*isTransactional: true isControl: false", said, re.M))
    marker = r"^\s*\| offset: (\d+) .*endTxnMarker: ABORT"
    ends = {int(offset) for offset in re.findall(marker, said, re.M)}
    wrong = complaints(said) + complaints(told)
    wrong += [f"{one} begins nowhere" for one in entries if (str(one[1]), str(one[0])) not in begins]
    wrong += [f"{one} is stable beyond its end" for one in entries if not one[1] < one[2] or one[3] > one[2] + 1]
    wrong += [f"markers at {sorted(ends ^ {one[2] for one in entries})} are on one side only"] if ends != {one[2] for one in entries} else []
    for line in wrong[:20]:
        print(f"WRONG {line[:300]}")
    print(f"dump: {len(entries)} of {aborts} aborted transactions in {len(indexes)} indexes over {len(set(logs))} segments, {len(wrong)} complaints")
    good = own == 0 or kind != "millstream"
    return good and not wrong and len(entries) == aborts and len(indexes) > 1


def main():
    """Fills a topic, dumps all its files, counts the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_broker_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(options.broker, SETTINGS) as broker:
        path = pathlib.Path(folder) / "corpus"
        _, count, _ = corpus.write(path, megabytes=2)
        expected = count * fill(broker, path)
        logs = sorted(log for log in broker.segments() if TOPIC in str(log) or broker.kind == "millstream")
        indexes = sorted(index for log in logs for suffix in (".index", ".timeindex", ".txnindex") if (index := log.with_suffix(suffix)).exists())
        said = dump([*logs, *indexes], "--deep-iteration")
        sane = dump(indexes, "--index-sanity-check")
        own = subprocess.run([millstream_binary(), "log", "verify", "--records", str(broker.data)], check=False).returncode
    records = len(re.findall(r"^\s*\| offset:", said, re.M))
    batches = len(re.findall(r"^baseOffset:", said, re.M))
    entries = len(re.findall(r"^(?:offset: \d+ position:|timestamp: \d+ offset:)", said, re.M))
    passed = sane.count("passed sanity check") + len(re.findall(r"index is empty\.$", sane, re.M))
    wrong = complaints(said) + complaints(sane)
    for line in wrong[:20]:
        print(f"WRONG {line[:300]}")
    print(
        f"dump: {len(logs)} segments, {batches} batches, {records} records (sent {expected}), "
        f"{len(indexes)} indexes with {entries} entries, {passed} passed the sanity check, {len(wrong)} complaints"
    )
    good = own == 0 and not wrong and records == expected and passed == len(indexes) and len(logs) > 3 and len(indexes) == 2 * len(logs)
    compacted = options.broker != "millstream" or check_compacted()
    transactions = check_transactions(options.broker)
    sys.exit(0 if good and entries > 0 and compacted and transactions else 1)


if __name__ == "__main__":
    main()
