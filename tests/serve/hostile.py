"""Requests that nobody should send: the same ones every time."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.package.test_predictor import photo

_FORMS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_HUGE = 50_000


def damaged_photos() -> Iterator[bytes]:
    """Photos that end early, and photos with some bits the other way round; some can still be decoded."""
    chance = random.Random(0)
    for form in _FORMS:
        whole = photo(6, size=(60, 50), form=form)
        for _ in range(20):
            yield whole[: chance.randrange(len(whole))]
        for flips in (1,) * 20 + (3,) * 10 + (50,) * 10:
            damaged = bytearray(whole)
            # Half of them in the headers, where they do most.
            for _ in range(flips):
                place = chance.randrange(min(len(whole), chance.choice((60, len(whole)))))
                damaged[place] ^= 1 << chance.randrange(8)
            yield bytes(damaged)


def png(width: int, height: int, pixels: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grayscale PNG of 1 bit per pixel, whatever its pixels unpack to."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    packed = (struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def claims_and_bombs() -> Iterator[bytes]:
    """Photos that say they are huge, and few bytes that become many."""
    zeros = zlib.compress(bytes(10_000 * 1251), 9)
    for pixels in (b"", zlib.compress(b"")):
        yield png(_HUGE, _HUGE, pixels)
    # Both are what they say they are.
    yield png(10_000, 10_000, zeros)
    yield png(1, 10_000_000, zlib.compress(bytes(20_000_000), 9))
    # Few pixels, until the shorter side is brought to what a backbone wants.
    yield png(4, 200_000, zlib.compress(bytes(400_000), 9))
    # More pixels, and more text, than there should be.
    yield png(32, 32, zeros)
    yield png(32, 32, zlib.compress(bytes(160)), (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9)))
    yield png(32, 32, zlib.compress(bytes(160)), (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 9)))
    jpeg = bytearray(photo(1, form="JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", _HUGE, _HUGE)
    yield bytes(jpeg)
    # At an eighth of its size it would be small enough.
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 12_000, 12_000)
    yield bytes(jpeg)
    # Thousands of scans, each of which passes over all pixels.
    file = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    yield whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * 100 + whole[-2:]
    yield from tiffs()
    for size in ((_HUGE, _HUGE), (2**31 - 1, 2**31 - 1), (-1, -1), (0, 0)):
        bitmap = bytearray(photo(1, form="BMP"))
        bitmap[18:26] = struct.pack("<ii", *size)
        yield bytes(bitmap)
    gif = bytearray(photo(1, form="GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield bytes(gif)
    canvas = (_HUGE - 1).to_bytes(3, "little") * 2
    webp = photo(1, form="WEBP")[12:]
    extended = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + webp
    yield b"RIFF" + struct.pack("<I", len(extended)) + extended
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photo.jpg", bytes(20_000_000))
    yield file.getvalue()
    yield zlib.compress(bytes(20_000_000), 9)


def tiffs() -> Iterator[bytes]:
    """TIFFs with huge sizes and tiles, many tiles and tags, tags that share bytes, and directories in circles."""
    zeros = zlib.compress(bytes(3 * 16 * 16))
    plain = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 2), (277, 3), (278, 64), (273, 8), (279, 200)]
    for changed in ({256: _HUGE, 257: _HUGE}, {278: 2**32 - 1}, {277: 60_000}, {258: 64}, {273: 2**32 - 1}, {}):
        yield tiff([(tag, changed.get(tag, value)) for tag, value in plain], bytes(200))
    for side in (16, _HUGE, 2**20, 2**32 - 16):
        yield tiff([*plain[:6], (322, side), (323, side), (324, 8), (325, 200)], bytes(200))
    for tiles in (16, 10_000, 2**30):
        yield tiff([*plain[:6], (322, 16), (323, 16), (324, 200, tiles), (325, 200, tiles)], zeros * 400)
    yield tiff([*plain, *((tag, 0) for tag in range(1000, 20_000))], b"")
    yield tiff([*plain, *((tag, 8, 25_000) for tag in range(1000, 5000))], bytes(100_000))
    yield tiff([*plain, (330, 8), (34665, 8), (34853, 8)], bytes(200), following=8)


def tiff(entries: list[tuple[int, ...]], rest: bytes, following: int = 0) -> bytes:
    """A TIFF of a directory with tags, values (or the places of so many values), and what follows it."""
    packed = b"".join(struct.pack("<HHII", tag, 4, (*count, 1)[0], value) for tag, value, *count in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", following) + rest


def no_photos() -> Iterator[bytes]:
    """Files of other kinds, and files of two kinds at once."""
    chance = random.Random(1)
    jpeg, gif = photo(1, form="JPEG"), photo(1, form="GIF")
    yield from (b"", b"\0", b"no photo", bytes(1000), b"\xff\xd8", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF")
    yield from (b"\x89PNG\r\n\x1a\n", b"%PDF-1.4\n", b"\x7fELF\x02\x01\x01", b"MZ", b"PK\x03\x04", b"<html></html>")
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n(/etc/passwd) (r) file closefile\nshowpage\n"
    yield b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
    yield b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><svg>&b;</svg>'
    yield b"P6\n9 9\n255\n" + bytes(243)
    yield b"II*\0" + struct.pack("<I", 8) + bytes(100)
    yield b"%PDF-1.4\n" + jpeg
    yield jpeg + b"%PDF-1.4\n%%EOF"
    yield gif[:6] + b"/*" + gif[8:] + b"*/=1;alert(1)"
    yield jpeg + b"PK\x03\x04" + bytes(100)
    yield jpeg[:2] + b"\xff\xfe\x00\x20<script>alert(1)</script>" + bytes(7) + jpeg[2:]
    for length in (1, 10, 100, 1000, 10_000):
        for _ in range(8):
            yield chance.randbytes(length)


def broken_json() -> Iterator[bytes]:
    """JSON that is none, or has no photo in it."""
    chance = random.Random(2)
    good = base64.b64encode(photo(1))
    whole = b'{"instances": [{"image": "%s"}]}' % good
    yield from (b"", b"{", b"[", b'"', b"null", b"1", b"NaN", b"-", b"\xff\xfe", b"\0", b"{}", b"[]", b'{"image"}')
    yield from (b"[" * 100_000, b'{"image":' * 20_000, b'{"a":{"a":' * 10_000, b"1" * 100_000, b"1e" + b"9" * 1000)
    yield from (b'{"image": %s}' % value for value in (b"1", b"null", b"[]", b"{}", b"true", b"1e999", b"9" * 5000))
    yield from (b'{"image": "%s"}' % text for text in (b"", b"!", b"a", b"aaaaa", b"\\ud800", b"\\u0000", b"data:"))
    yield from (b'{"instances": %s}' % value for value in (b"1", b"[]", b"{}", b"[1]", b"[{}]", b'[{"image": 1}]'))
    yield b'{"image": "%s", "image": 1}' % good
    yield b'{"image": "%s", "path": "/etc/passwd"}' % good
    yield json.dumps({"instances": [{"image": good.decode()}] * 9}).encode()
    yield json.dumps({"instances": [{"image": "aaaa"}] * 8}).encode()
    yield json.dumps({"instances": [{"image": good.decode()}, {"image": "aaaa"}]}).encode()
    yield b"\xef\xbb\xbf" + whole
    yield whole.decode().encode("utf-16")
    for _ in range(20):
        yield whole[: chance.randrange(len(whole))]
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[chance.randrange(30)] = chance.randrange(256)
        yield bytes(damaged)


def kinds() -> Iterator[str]:
    """Content types that are none of the contract's."""
    yield from ("", "text/plain", "image", "image\\jpeg", "multipart/form-data; boundary=a", "application/x-npy")
    yield from ("application/xml", "text/html", "video/mp4", "*/*", "application/json5", "a" * 3000, "\xff\xff", ";")


def broken_requests() -> Iterator[bytes]:
    """Bytes around a photo that are not as they should be."""
    chance = random.Random(3)
    content = photo(1, size=(30, 20))
    head = b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\nConnection: close\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(content) + content
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole) - len(content))] = chance.randrange(256)
        yield bytes(damaged)
    for _ in range(10):
        yield whole[: chance.randrange(len(whole))]
    for path in ("/nothing", "/ping", "/invocations/", "//invocations", "/../etc/passwd", "/%00", "/a?b=c", "*"):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"):
            yield f"{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode()
    yield from (head + b"Content-Length: %s\r\n\r\n" % length for length in (b"-1", b"1e3", b"0x10", b" ", b"9" * 30))
    # Lengths that are not those of the body, and no end at all.
    yield from (head + b"Content-Length: %d\r\n\r\n" % length + content for length in (10, 100_000, 300_001, 10**15))
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from (chunked + end for end in (b"", b"zz\r\n", b"-5\r\n", b"5\r\nhello", b"ffffffffffffffffff\r\n"))
    yield chunked + b"10000\r\n" + bytes(65_536) + (b"\r\n10000\r\n" + bytes(65_536)) * 20
    yield head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    yield head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    yield head + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + zlib.compress(bytes(20))[:20].ljust(20)
    yield from (
        b"GET http://elsewhere/ping HTTP/1.1\r\nHost: here\r\n\r\n",
        b"\r\n" * 5000,
        b"\0" * 5000,
        b"PRI * HTTP/2.0\r\n\r\n",
    )
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200)
