"""Where setup.sh put the foreign tools: outside the repository, kept between runs."""

import os
import pathlib

CACHE = pathlib.Path(os.environ.get("FOREIGN_CACHE", pathlib.Path.home() / ".cache" / "millstream" / "foreign"))
PYTHON = str(CACHE / "venv" / "bin" / "python")
JARS = str(CACHE / "jars" / "*")
CLASSES = str(CACHE / "classes")
LIBRDKAFKA = CACHE / "librdkafka"


def java(main, *arguments, heap="-Xmx256m"):
    """The command line of a short-lived Java program."""
    return ["java", heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{CLASSES}:{JARS}", main, *arguments]
