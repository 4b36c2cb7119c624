"""One answer on the wire: whether it is one, and what of it must never be kept. No I/O."""

import json
import re
from typing import Any

from sunmesh.errors import FrameError

SECRET = re.compile(
    r"wpa|ssid|psk|pass|key|token|session|secret|cookie|credential|auth|private|mac|latitude"
    r"|longitude|mail",
    re.IGNORECASE,
)
"""What a name holds whose value must not be kept; no measurement is named like that."""
REMOVED = "removed"
"""What stands in the place of a secret."""


def parse(status: int, data: bytes | str) -> dict[str, Any]:
    """The JSON object of an answer; empty where the LocalAPI found no variable (status 400).

    The content type is not looked at: a PVS names its JSON in several ways.

    Raises:
        FrameError: ``refused`` (it says no), ``http`` (another status), ``empty``, ``json``.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if status in (401, 403):
        raise FrameError("refused", f"HTTP {status}: it wants a login, or is sick")
    if status == 400:
        return {}
    if status != 200:
        raise FrameError("http", f"HTTP {status}: {shown(text)}")
    if not text.strip():
        raise FrameError("empty", "an empty answer")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise FrameError("json", f"no JSON ({err}): {shown(text)}") from err
    return checked(body)


def checked(body: object) -> dict[str, Any]:
    """``body`` if it is an answer.

    Raises:
        FrameError: ``refused``: it says no; ``json``: it is no object.
    """
    if not isinstance(body, dict):
        raise FrameError("json", f"an answer is a JSON object, not {type(body).__name__}")
    if body.get("status") in (401, 403, "401", "403") and "error" in body:
        raise FrameError("refused", f"{body['status']}: it wants a login, or is sick")
    if body.get("result", "succeed") != "succeed":
        raise FrameError("refused", f"{body['result']}: {shown(str(body.get('msg', '')))}")
    return body


def shown(text: str) -> str:
    """The beginning of a text in one line; nothing that could be a secret."""
    if SECRET.search(text):
        return "(not shown)"
    return " ".join(text.split())[:60]


def redacted(value: Any) -> Any:  # noqa: ANN401 - JSON
    """``value`` without network names, keys, tokens and MAC addresses, its shape kept."""
    if isinstance(value, dict):
        name = value.get("name")
        if isinstance(name, str) and SECRET.search(name) and "value" in value:
            return {**value, "value": REMOVED}
        return {
            key: REMOVED if SECRET.search(str(key)) else redacted(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [redacted(each) for each in value]
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.dumps(redacted(json.loads(value)))
        except (ValueError, RecursionError):
            return REMOVED if SECRET.search(value) else value
    return value
