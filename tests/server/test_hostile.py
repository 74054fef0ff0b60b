#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Media that strangers may send, through `limn see` and through a server: an answer or one clear line, in
bounded memory, and the server lives on.

usage: test_hostile.py LIMN    (LIMN_GOLDEN_DIR: tests/golden)
"""
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from struct import pack

from verdict import check, end

LIMN, GOLDEN = sys.argv[1], Path(os.environ["LIMN_GOLDEN_DIR"]).resolve()
CORPUS = GOLDEN.parents[1] / "fuzz/corpus/media"
SANITIZED = bool(os.environ.get("LIMN_SANITIZED"))
MOST_MB = 600  # of one process; the programs themselves take some 60


# ---- files ----


def png(w, h, depth=8, kind=2, rows=None, cut=None, more=b""):
    def chunk(name, data):
        return pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data))

    bits = depth * {0: 1, 2: 3, 3: 1, 6: 4}[kind]
    packer = zlib.compressobj(9)
    row, body = b"\0" + b"\x55" * ((w * bits + 7) // 8), b""
    for _ in range(h if rows is None else rows):
        body += packer.compress(row)
    data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0)) + more +
            chunk(b"IDAT", body + packer.flush()) + chunk(b"IEND", b""))
    return data[:cut]


def gif(w, h, frames, missing=0):
    """Frames of one colour: each code stands for a run that is one pixel longer than the one before."""
    left, run, code, width, held, n = w * h - missing, 1, 0, 3, 4, 3  # held: the clear code, n: its bits
    while left > 0:
        held, n, left = held | code << n, n + width, left - run
        if code < 4095:
            run, code = run + 1, max(code + 1, 6)
        width += code == 1 << width
    data = (held | 5 << n).to_bytes(n // 8 + 2, "little")
    blocks = b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255))
    one = b"\x21\xf9\x04\0\x0a\0\0\0" + b"\x2c" + pack("<HHHH", 0, 0, w, h) + b"\0\x02" + blocks + b"\0"
    return b"GIF89a" + pack("<HH", w, h) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + one * frames + b"\x3b"


def palette():
    def chunk(name, data):
        return pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data))

    return chunk(b"PLTE", bytes(range(256)) * 3) + chunk(b"tRNS", bytes(range(256)))


def pdf(width, height, pages):
    kids = " ".join(f"{3 + i} 0 R" for i in range(pages))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {pages}>>"]
    objects += [f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]>>"] * pages
    out, places = b"%PDF-1.4\n", []
    for i, o in enumerate(objects):
        places.append(len(out))
        out += f"{i + 1} 0 obj{o}endobj\n".encode()
    table = "".join(f"{p:010} 00000 n \n" for p in places)
    return (out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Root 1 0 R/Size {len(objects) + 1}>>\n"
            f"startxref\n{len(out)}\n%%EOF\n".encode())


def tiff(pages, circle=False, bits=8, inks=1, last=None):
    """Pages of 24 x 16, one after the other, that share their pixels; after the last one may come the first again.
    last: side, compression and strip of a last page that is another."""
    def directory(width, height, compression, at, size, after):
        kind = {1: 1, 3: 2, 4: 5}[inks]  # grey, RGB, CMYK
        entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, inks, depths if inks > 2 else bits),
                   (259, 3, 1, compression), (262, 3, 1, kind), (273, 4, 1, at), (277, 3, 1, inks), (278, 4, 1, height),
                   (279, 4, 1, size)]
        return pack("<H", len(entries)) + b"".join(pack("<HHII", *e) for e in entries) + pack("<I", after)

    plain = b"\x40" * (24 * 16 * inks * bits // 8)
    side, compression, strip = last or (0, 1, b"")
    depths = 8 + len(plain) + len(strip)
    depths += depths % 2
    first, step = depths + 2 * inks, 2 + 12 * 9 + 4
    out = [(b"II*\0" + pack("<I", first) + plain + strip).ljust(depths, b"\0"), pack(f"<{inks}H", *[bits] * inks)]
    for i in range(pages - (1 if last else 0)):
        after = first + step * (i + 1) if i < pages - 1 else first if circle else 0
        out.append(directory(24, 16, 1, 8, len(plain), after))
    if last:
        out.append(directory(side, side, compression, 8 + len(plain), len(strip), 0))
    return b"".join(out)


def claims_jpeg(side):
    """The golden picture with another size in its frame header."""
    data = read(GOLDEN / "image/plain.jpg")
    at = re.search(rb"\xff[\xc0\xc2]\0\x11\x08", data).end()
    return data[:at] + pack(">HH", side, side) + data[at + 4:]


def claims_webp():
    """A lossless picture (WebP container, VP8L): 14 bits for each side, both full; and an extended one of 2^24 a side."""
    body = b"\x2f" + pack("<I", 0x3fff | 0x3fff << 14) + b"\0" * 60
    simple = b"WEBPVP8L" + pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    head = pack("<I", 0) + b"\xff" * 6
    wide = b"WEBPVP8X" + pack("<I", len(head)) + head + simple[4:]
    return [b"RIFF" + pack("<I", len(x)) + x for x in (simple, wide)]


def squeezed(side):
    """One bit a pixel, so small that the file tells nothing about the size."""
    packer = zlib.compressobj(9)
    return packer.compress(b"\x55" * (side // 8 * side)) + packer.flush()


def half(data):
    return data[:len(data) // 2]


def read(path):
    return path.read_bytes()


# name, bytes, what becomes of it: True an answer, False a refusal, None either
FILES = [
    ("none.png", b"", False),
    ("0x0.png", png(0, 0), False),
    ("0x9.png", png(0, 9), False),
    ("1x30000.png", png(1, 30000), False),  # sides more than 200 apart
    ("30000x1.png", png(30000, 1), False),
    ("30000x30000.png", png(30000, 30000, 1, 0, rows=1), False),  # a bomb by its head
    ("12000x12000.png", png(12000, 12000, 1, 0), None),  # a bomb that is all there: 18 kB, 144 megapixels
    ("16bit.png", png(64, 48, 16), True),
    ("grey16.png", read(GOLDEN / "image/grey16.png"), True),
    ("palette.png", png(64, 48, 8, 3, more=palette()), True),
    ("alpha.png", read(GOLDEN / "image/alpha.png"), True),
    ("cmyk.jpg", read(GOLDEN / "image/cmyk.jpg"), True),
    ("cut.png", png(640, 480, cut=200), False),
    ("half.jpg", read(GOLDEN / "image/plain.jpg")[:600], False),
    ("rows-missing.png", png(640, 480, rows=9), None),
    ("png-called.jpg", png(64, 48), True),
    ("jpeg-called.mp4", read(GOLDEN / "image/plain.jpg"), True),
    ("clip-called.png", read(CORPUS / "a.mp4"), True),
    ("text-called.png", b"a picture, honestly\n", False),
    ("html.jpg", b"<html><script>alert(1)</script>", False),
    ("svg.png", read(CORPUS / "a.svg"), False),
    ("animated.png", read(CORPUS / "a.apng"), True),
    ("animated.gif", read(CORPUS / "s.gif"), True),
    ("10000-frames.gif", gif(32, 32, 10000), True),
    ("0x0.gif", gif(0, 0, 2), None),
    ("short-frame.gif", gif(32, 32, 1, missing=99), False),
    ("broken-frame.gif", read(CORPUS / "176fcef1ca"), False),
    ("large.gif", gif(20000, 5000, 3), False),
    ("broken.pdf", b"%PDF-1.7\n1 0 obj\n", False),
    ("wide.pdf", pdf(1000000, 20, 1), False),
    ("500-pages.pdf", pdf(100, 100, 500), None),  # too many for the context, or answered
    ("three.pdf", pdf(100, 100, 3), True),
    ("cut.mp4", half(read(CORPUS / "a.mp4")), False),
    ("cut.webp", half(read(CORPUS / "s.webp")), False),
    ("cut.gif", half(read(CORPUS / "s.gif")), False),
    ("cut.pdf", half(read(CORPUS / "s.pdf")), False),
    ("cut.tif", half(tiff(3)), False),
    ("cut-strip.tif", tiff(1, last=(64, 1, b"\x40" * 99)), False),
    ("plain.tif", tiff(1), True),
    ("cmyk.tif", tiff(1, inks=4), True),
    ("16bit.tif", tiff(1, bits=16, inks=3), True),
    ("10000-pages.tif", tiff(10000), False),
    ("circle.tif", tiff(3, circle=True), True),
    ("itself.tif", tiff(1, circle=True), True),
    ("later-page-large.tif", tiff(2, bits=1, last=(16000, 8, squeezed(16000))), False),
    ("largest.jpg", claims_jpeg(65535), False),
    ("largest.webp", claims_webp()[0], False),
    ("largest-extended.webp", claims_webp()[1], False),
    ("playlist.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", False),
]


# ---- limn see ----


def see(path, want):
    args = [LIMN, "see", "-m", str(GOLDEN / "tiny_see"), path, "what is it?", "-n", "3", "--quiet", "--threads", "2",
            "--image-max-tokens", "16", "--max-frames", "8", "--cache-dir", "none"]
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = p.stdout.read(), p.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    name = os.path.basename(path)
    good = p.returncode == 0
    check(f"see {name}", p.returncode >= 0 and (want is None or good == want), f"exit {p.returncode}: {err}")
    lines = err.strip().split("\n")
    clear = len(lines) == 1 and re.match(r"limn: .{12,}", lines[0]) and name in lines[0]
    check(f"see {name}: one line that names it", good or clear, err)
    check(f"see {name}: memory", SANITIZED or usage.ru_maxrss < MOST_MB * 1024, f"{usage.ru_maxrss / 1024:.0f} MB")


# ---- a server ----


def high_water(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def post(base, data):
    r = urllib.request.Request(base + "/v1/uploads", data, {"Content-Type": "application/octet-stream"})
    try:
        with urllib.request.urlopen(r, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def serve(folder):
    server = subprocess.Popen([LIMN, "serve", "--engine", "stub", "--port", "0", "--data-dir", folder],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        base = re.search(r"http:\S+", server.stdout.readline())[0].rstrip("/")
        for name, data, want in FILES:
            status, body = post(base, data)
            # a long strip is a picture like any other until a model is asked about it; so is a document, of which
            # only the first page is looked at
            mine = None if name in ("1x30000.png", "30000x1.png", "wide.pdf", "later-page-large.tif") else want
            if name == "animated.png":  # has no type of its own on the web: the answer says what to send
                mine = False
                check("upload animated.png: what to send", b"animated PNG" in body, body[:200])
            check(f"upload {name}", status in (201, 400, 413) and (mine is None or (status == 201) == mine),
                  f"{status} {body[:200]}")
            check(f"upload {name}: says why", status == 201 or b'"message"' in body, body[:200])
        with urllib.request.urlopen(base + "/livez", timeout=60) as answer:
            check("the server lives", answer.status == 200)
        check("the server's memory", SANITIZED or high_water(server.pid) < MOST_MB, f"{high_water(server.pid):.0f} MB")
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, data, want in FILES:
            path = os.path.join(folder, name)
            Path(path).write_bytes(data)
            see(path, want)
        serve(os.path.join(folder, "data"))
    return end()


sys.exit(main())
