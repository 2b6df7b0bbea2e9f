"""Reads PNG files of 8-bit grey or RGB, as Regroup writes them, after the standard (ISO/IEC 15948):
a reader that has nothing in common with the program's. Writes grey ones, of 8 or 16 bits."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
CHANNELS = {GREY: 1, RGB: 3}


def chunks(data):
    assert data[:8] == SIGNATURE
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length:at + 12 + length])
        assert crc == zlib.crc32(kind + body)
        yield kind, body
        at += 12 + length


def paeth(left, up, corner):
    estimate = left + up - corner
    distances = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    return (left, up, corner)[distances.index(min(distances))]


def unfiltered(kind, line, above, step):
    row = bytearray(len(line))
    for i, byte in enumerate(line):
        left = row[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        guess = (0, left, above[i], (left + above[i]) // 2, paeth(left, above[i], corner))[kind]
        row[i] = (byte + guess) & 0xFF
    return row


def read(path):
    """Rows of pixels: numbers in grey, (red, green, blue) in colour."""
    parts = list(chunks(path.read_bytes()))
    assert parts[0][0] == b"IHDR" and parts[-1] == (b"IEND", b"")
    width, height, bits, colour, *rest = struct.unpack(">IIBBBBB", parts[0][1])
    assert bits == 8 and colour in CHANNELS and rest == [0, 0, 0]
    raw = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    step = CHANNELS[colour]
    above = bytearray(width * step)
    rows = []
    for y in range(height):
        line = raw[y * (len(above) + 1):(y + 1) * (len(above) + 1)]
        above = unfiltered(line[0], line[1:], above, step)
        rows.append(list(above) if step == 1 else [tuple(above[i:i + 3]) for i in range(0, len(above), 3)])
    assert len(raw) == height * (width * step + 1)
    return rows


def grey(rows, bits=8):
    """The bytes of a file with these rows of numbers."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    sample = {8: "B", 16: "H"}[bits]
    raw = b"".join(b"\0" + struct.pack(f">{len(row)}{sample}", *row) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, GREY, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
