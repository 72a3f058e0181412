"""Every producer with every codec, read back by every reader: what comes out must be the file that went in.

Prints one row per producer and codec: MB/s of the producer and of each reader (start of the program included), the share
of batches that really lie on disk in that codec, and the checksum. Fails at the end if any of the reads differed.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import time

import corpus
import segments
from broker import add_broker_option, running
from clients import (
    CODEC_IDS,
    CODECS,
    OTHER_CODECS,
    OTHER_PRODUCERS,
    OTHER_READERS,
    PRODUCERS,
    READERS,
    installed,
)

LIMIT_S = 600


def produce(broker, name, codec, topic, path):
    """Sends the corpus; answers the seconds and how many batches of which codec appeared on disk."""
    before = broker.segments()
    began = time.monotonic()
    done = subprocess.run(
        (PRODUCERS | OTHER_PRODUCERS)[name](broker.address, topic, codec, str(path)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"{name} could not produce with {codec}:\n{done.stdout.decode(errors='replace')[-2000:]}")
    return seconds, segments.codecs(broker.segments() - before)


def read(broker, name, topic):
    """Reads the topic; answers the seconds, the checksum and the count of the lines that came out."""
    digest = hashlib.sha256()
    lines = 0
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen((READERS | OTHER_READERS)[name](broker.address, topic), stdout=subprocess.PIPE, stderr=errors)
        while chunk := process.stdout.read1(1 << 20):
            digest.update(chunk)
            lines += chunk.count(b"\n")
        code = process.wait(timeout=LIMIT_S)
        if code != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            print(f"{name} could not read {topic} (exit code {code}):\n{said}", flush=True)
            return time.monotonic() - began, "failed", lines
    return time.monotonic() - began, digest.hexdigest(), lines


def check(broker, options, path, expected, megabytes):
    """The matrix itself; answers the sentences that say what was wrong, and how many reads were made."""
    wrong, reads = [], 0
    print(f"{'producer':<13}{'codec':<8}{'MB/s':>7}{'in codec':>10}   " + "".join(f"{r:>14}" for r in options.readers) + "   sha256")
    for producer in options.producers:
        for codec in options.codecs:
            topic = f"{producer}.{codec}"
            seconds, batches = produce(broker, producer, codec, topic, path)
            share = batches[CODEC_IDS[codec]] / max(1, batches.total())
            # A client may leave a batch as it is where compression gains nothing, so a few are let through.
            if share < 0.9:
                wrong.append(f"{topic}: asked for {codec}, but the batches on disk are {dict(batches)} (codec number: batches)")
            row = f"{producer:<13}{codec:<8}{megabytes / seconds:>7.1f}{share:>9.0%}    "
            sums = set()
            for reader in options.readers:
                seconds, checksum, lines = read(broker, reader, topic)
                reads += 1
                sums.add(checksum[:12])
                if (checksum, lines) != expected:
                    wrong.append(f"{topic} read by {reader}: {lines} records, sha256 {checksum[:12]}; sent {expected[1]}, {expected[0][:12]}")
                row += f"{megabytes / seconds:>14.1f}"
            print(f"{row}   {' '.join(sorted(sums))}", flush=True)
    return wrong, reads


def main():
    """Parses the options, runs the matrix, says what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_broker_option(parser)
    parser.add_argument("--megabytes", type=int, help="only the corpus's first megabytes (default: all of it)")
    parser.add_argument("--others", action="store_true", help="the further clients, with the codecs that all of them know")
    parser.add_argument("--producers", nargs="+", choices=PRODUCERS | OTHER_PRODUCERS)
    parser.add_argument("--readers", nargs="+", choices=READERS | OTHER_READERS)
    parser.add_argument("--codecs", nargs="+", choices=CODECS)
    options = parser.parse_args()
    options.producers = options.producers or list(filter(installed, OTHER_PRODUCERS if options.others else PRODUCERS))
    options.readers = options.readers or list(filter(installed, OTHER_READERS if options.others else READERS))
    options.codecs = options.codecs or (OTHER_CODECS if options.others else CODECS)
    with tempfile.TemporaryDirectory() as folder, running(options.broker, {"num.partitions": 1}) as broker:
        path = pathlib.Path(folder) / "corpus"
        source, count, size = corpus.write(path, options.megabytes)
        expected = (hashlib.sha256(path.read_bytes()).hexdigest(), count)
        print(f"corpus: {source}, {count} records, {size / 1e6:.1f} MB, sha256 {expected[0][:12]}; broker: {options.broker}")
        wrong, reads = check(broker, options, path, expected, size / 1e6)
    for sentence in wrong:
        print(f"WRONG {sentence}")
    print(f"matrix: {reads} reads, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
