"""What a browser keeps of the portal: the service worker, the manifest, the files of the shell."""

import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec
from flask import request
from flask import url_for as made_url_for

from . import text

STATIC = Path(__file__).parent / "static"
SHELL = (
    *("portal.css", "theme.js", "portal.js", "vendor/htmx.js", "now.js", "icon.svg"),
    *("icon-192.png", "icon-512.png"),
)
"""Files that every page, or *Now*, cannot do without; with a mark of their content."""
PLAIN = ("press.js", "spans.js", "vendor/inter.woff2", "vendor/inter-ext.woff2")
"""The same, but asked for by scripts and styles, which know no mark."""


@cache
def mark(name: str) -> str:
    """A mark of a static file's content, so that browsers may keep it for ever."""
    file = STATIC / name
    if not file.is_file():
        return "0"
    return hashlib.blake2b(file.read_bytes(), digest_size=5).hexdigest()


@lru_cache(1024, typed=True)
def _address(_root: str, endpoint: str, *query: object) -> str:
    values: dict[str, Any] = dict(zip(query[::2], query[1::2], strict=True))  # type: ignore[arg-type]
    return made_url_for(endpoint, **values)


def url_for(endpoint: str, **values: Any) -> str:  # noqa: ANN401
    """Flask's, for addresses on this host: a page has a hundred, and most are those of others."""
    query: list[Any] = []
    for item in values.items():
        query += item
    return _address(request.script_root, endpoint, *query)


def asset(name: str) -> str:
    """The address of a static file."""
    return url_for("static", filename=name, v=mark(name))


def worker_of() -> bytes:
    """The service worker for the files as they are now, in the language spoken."""
    names = [name for name in (*SHELL, *PLAIN) if (STATIC / name).is_file()]
    files = [asset(name) for name in names if name in SHELL]
    files += [url_for("static", filename=name) for name in names if name in PLAIN]
    marks = "".join(mark(name) for name in (*names, "worker.js")) + text.language()
    settings = {
        "files": files,
        "kept": [url_for("now.page"), url_for("now.page", part="main"), url_for("now.snapshot")],
        "offline": url_for("now.offline"),
        "mark": hashlib.blake2b(marks.encode(), digest_size=5).hexdigest(),
    }
    code = (STATIC / "worker.js").read_bytes()
    return b"const SHELL = " + msgspec.json.encode(settings) + b";\n" + code


def manifest_of(name: str, about: str) -> dict[str, Any]:
    """The manifest."""
    icons = [
        {"src": asset("icon.svg"), "sizes": "any", "type": "image/svg+xml", "purpose": "any"},
        *(
            {"src": asset(f"icon-{size}.png"), "sizes": f"{size}x{size}", "type": "image/png"}
            for size in (192, 512)
        ),
        {
            "src": asset("icon-maskable.png"),
            "sizes": "512x512",
            "type": "image/png",
            "purpose": "maskable",
        },
    ]
    pages = (("control.page", "Control"), ("alarms.page", "Alarms"), ("day.today", "Day"))
    start = url_for("now.page")
    return {
        "name": name,
        "short_name": name[:12],
        "description": about,
        "lang": text.language(),
        "id": start,
        "start_url": start,
        "scope": start,
        "display": "standalone",
        "background_color": "#121417",
        "theme_color": "#121417",
        "icons": icons,
        "shortcuts": [
            {"name": text.gettext(title), "url": url_for(endpoint)} for endpoint, title in pages
        ],
    }
