"""The real text that the checks send: one record a line, "key TAB value".

Debian's package list (`apt-cache dumpavail`, 50 MB and more once `apt-get update` has run): a stanza a record, keyed by
package name, its line breaks turned into 0x1f so that every tool can carry a record on a line. Where apt has less, the
Rust sources that cargo fetched stand in: a paragraph a record, keyed by crate.
"""

import argparse
import os
import pathlib
import re
import subprocess

LINE_BREAK = b"\x1f"
WHOLE = 50_000_000


def package_stanzas():
    """(package name, stanza) in the order of apt's list, which is the same on every call."""
    listing = subprocess.run(["apt-cache", "dumpavail"], check=True, stdout=subprocess.PIPE).stdout
    for stanza in listing.split(b"\n\n"):
        name = re.match(rb"Package: (\S+)", stanza)
        if name:
            yield name[1], stanza.strip(b"\n")


def source_paragraphs():
    """(crate, paragraph) of every Rust file in cargo's registry, in the order of the paths."""
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    registry = home / "registry" / "src"
    for path in sorted(registry.glob("*/*/**/*.rs")):
        crate = path.relative_to(registry).parts[1].encode()
        for paragraph in path.read_bytes().split(b"\n\n"):
            if paragraph.strip():
                yield crate, paragraph


def write(path, megabytes=None):
    """Writes the corpus, or its first `megabytes`, and answers how many records and bytes of key and value it has."""
    sources = [package_stanzas, source_paragraphs]
    wanted = WHOLE if megabytes is None else megabytes * 1_000_000
    for source in sources:
        count = size = 0
        with open(path, "wb") as out:
            for key, value in source():
                if megabytes is not None and size >= wanted:
                    break
                value = value.replace(b"\r", b"").replace(b"\t", b" ").replace(b"\n", LINE_BREAK)
                out.write(key + b"\t" + value + b"\n")
                count += 1
                size += len(key) + len(value)
        # Joining the stanzas drops their blank lines, so a list of 50 MB yields a little less than that.
        if size >= wanted * 0.99:
            return source.__name__, count, size
    raise SystemExit(f"neither apt nor cargo has {wanted} bytes of text here: run `apt-get update`")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--megabytes", type=int)
    options = parser.parse_args()
    print("{}: {} records, {} bytes".format(*write(options.path, options.megabytes)))
