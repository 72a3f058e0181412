"""Where setup.sh put the foreign tools: outside the repository, kept between runs."""

import functools
import hashlib
import os
import pathlib
import shutil

CACHE = pathlib.Path(os.environ.get("FOREIGN_CACHE", pathlib.Path.home() / ".cache" / "millstream" / "foreign"))
PYTHON = str(CACHE / "venv" / "bin" / "python")
JARS = str(CACHE / "jars" / "*")
CLASSES = str(CACHE / "classes")
LIBRDKAFKA = CACHE / "librdkafka"
VM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def java(main, *arguments, heap="-Xmx256m"):
    """The command line of a short-lived Java program: one of ours, or one of Kafka's tools by its main class."""
    if "." not in main:
        return ["java", heap, *VM, "-cp", f"{CLASSES}:{JARS}", main, *arguments]
    ready = [f"-XX:SharedArchiveFile={archive()}"] if archive().exists() else []
    return ["java", heap, *VM, *ready, "-cp", JARS, main, *arguments]


@functools.cache
def archive():
    """The classes of Kafka's tools as this Java keeps them ready for these jars; kafka_shell.py makes it."""
    binary = pathlib.Path(shutil.which("java") or "java").resolve()
    of = f"{binary} {binary.stat().st_mtime_ns}" if binary.exists() else str(binary)
    return CACHE / f"tools-{hashlib.sha256((of + (CACHE / 'jars.done').read_text()).encode()).hexdigest()[:16]}.jsa"
