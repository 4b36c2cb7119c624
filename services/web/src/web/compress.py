"""Answers made small: text is sent as gzip, static files are compressed once."""

import secrets
import struct
import threading
import zlib
from functools import lru_cache
from pathlib import Path

from flask import Flask, Response, request

TEXTS = frozenset(
    {
        "application/geo+json",
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/openapi+json",
        "application/problem+json",
        "image/svg+xml",
        "text/css",
        "text/csv",
        "text/html",
        "text/javascript",
        "text/plain",
    }
)
LEAST = 600
"""Bytes; less fits into one packet anyway."""
LEVEL, BEST = 5, 9
FILES = 100
MOST_BLUR = 64
"""Bytes that are added at random."""

_packing = threading.Lock()
"""A page takes 1 ms and 256 KiB, so one after the other."""


def gzip(data: bytes, level: int = LEVEL, *, blur: bool = False) -> bytes:
    """``data`` as gzip.

    Args:
        data: any.
        level: of zlib.
        blur: with a name of random length in front, so that the length of a page, in which somebody
            may have placed a guess, does not tell how well that guess compresses (BREACH).
    """
    name = secrets.token_bytes(secrets.randbelow(MOST_BLUR)).replace(b"\0", b"\1") if blur else b""
    head = b"\x1f\x8b\x08\x08" if blur else b"\x1f\x8b\x08\0"
    with _packing:
        packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = packer.compress(data), packer.flush()
        del packer
    return b"".join(
        (
            head,
            b"\0\0\0\0\0\xff",
            name + b"\0" if blur else b"",
            *packed,
            struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF),
        )
    )


@lru_cache(FILES)
def _file(path: Path, _changed: int) -> bytes:
    return gzip(path.read_bytes(), BEST)


def compress(app: Flask) -> None:
    """Send texts as gzip to who takes it. Called before anything else looks at the answers."""

    @app.after_request
    def pack(response: Response) -> Response:
        if response.mimetype not in TEXTS or "Content-Encoding" in response.headers:
            return response
        response.vary.add("Accept-Encoding")
        if response.status_code in (204, 206, 304) or request.method == "HEAD":
            return response
        if not request.accept_encodings["gzip"]:
            return response
        if request.endpoint == "static":
            path = Path(app.static_folder or "") / (request.view_args or {}).get("filename", "")
            if response.status_code != 200 or path.stat().st_size < LEAST:
                return response
            packed = _file(path, path.stat().st_mtime_ns)
            response.direct_passthrough = False
            response.close()
        elif response.is_streamed or response.direct_passthrough:
            return response
        else:
            data = response.get_data()
            if len(data) < LEAST:
                return response
            packed = gzip(data, blur=True)
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"
        etag, _ = response.get_etag()
        if etag is not None:
            response.set_etag(etag, weak=True)
        return response
