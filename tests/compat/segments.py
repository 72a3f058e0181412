"""Reads batch headers straight from segment files, without any client or broker."""

import struct
from collections import Counter

# base offset, batch length, leader epoch, magic, CRC, attributes, last offset delta
HEADER = struct.Struct(">qiibIhi")
BEFORE_LENGTH_COUNTS = 12


def headers(path):
    """(base offset, codec number, last offset) of each batch; stops at the file's end or at unwritten space."""
    with open(path, "rb") as segment:
        position = 0
        while len(head := segment.read(HEADER.size)) == HEADER.size:
            base, length, _epoch, magic, _crc, attributes, last_delta = HEADER.unpack(head)
            if length == 0:
                return
            if magic != 2:
                raise ValueError(f"{path}: a batch of magic {magic} at byte {position}")
            yield base, attributes & 7, base + last_delta
            position += BEFORE_LENGTH_COUNTS + length
            segment.seek(position)


def codecs(paths):
    """How many batches of each codec number these segment files hold."""
    return Counter(codec for path in sorted(paths) for _, codec, _ in headers(path))
