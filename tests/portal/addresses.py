"""Every page of the portal, found in its URL map, and what to fill in where one has parts."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sunmesh.config import load
from web.app import create_app

SITE = """
[site]
name = "home"
time_zone = "Europe/Rome"
[database]
url = "sqlite:////nowhere/x.db"
"""
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
PARTS = {
    "battery": {},
    "control.order": {"number": "unknown"},
    "day": {"text": YESTERDAY.isoformat()},
    "devices": {"name": "inverter"},
    "history.repair": {"text": YESTERDAY.isoformat()},
    "history": {"name": f"{YESTERDAY:%Y-%m}", "number": "1"},
    "money.period": {"key": f"{YESTERDAY:%Y-%m}"},
    "money": {"key": f"{YESTERDAY:%Y-%m}", "first": "2026-01-01"},
    "rules.edit": {"name": "c6"},
    "rules.replay": {"number": "unknown"},
    "rules": {"name": "c6", "number": "unknown"},
    "api": {"device": "inverter", "code": "x", "id": "x"},
    "static": {"filename": "portal.css"},
    "alarms": {"device": "inverter", "code": "x"},
}
"""By endpoint, else by blueprint: what stands in its addresses."""
ANYTHING = "1"
"""Where nobody said what: enough to ask whether it may be asked."""


def portal_app(folder: Path):
    """The portal as an application without anything behind it: for its URL map."""
    path = folder / "site.toml"
    path.write_text(SITE, encoding="utf-8")
    return create_app(load(path, "web", {}))


def addresses(app) -> list[tuple[str, str, str]]:
    """Endpoint, method and a filled-in address of everything in the map."""
    found = []
    for rule in app.url_map.iter_rules():
        known = PARTS.get(rule.endpoint, PARTS.get(rule.endpoint.partition(".")[0], {}))
        path = re.sub(
            r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>",
            lambda m, known=known: known.get(m[1], ANYTHING),
            rule.rule,
        )
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            found.append((rule.endpoint, method, path))
    return sorted(found)


NO_PAGE = re.compile(
    r"\.(json|csv|zip|xml|webmanifest|js)$|^/static/|^/api/v1|^/live$|/ping$|/data/export$|\.toml$"
)
"""What is for programs, or is a stream."""


def pages(app) -> list[str]:
    """The addresses that people look at."""
    return [
        path for _, method, path in addresses(app) if method == "GET" and not NO_PAGE.search(path)
    ]
