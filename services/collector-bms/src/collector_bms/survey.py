"""``probe`` and ``record``: every question once, to see what a pack is and to keep what it said."""

import contextlib
import re
from typing import Any

from sunmesh import clock
from sunmesh.errors import FrameError, TransportError
from sunmesh.messages import Info

from . import a5, codec
from .config import BmsDevice
from .service import BLOCKS, Daly, Question
from .shared import Query
from .transport import Bus, Link, NoAnswer

CODE = 0x57
NAMES = {CODE: "battery code", "versions": "serial number and battery code"}
"""Answers that tell one pack from another."""

_CODE = re.compile(rb"\xa5.\x57\x08", re.DOTALL)
"""How a frame with a battery code begins."""

SILENT_IN_A_ROW = 4
"""After so many questions without an answer the rest is not put."""


def survey(config: BmsDevice, bus: Bus) -> dict[str, Any]:
    """Who is on the port, and what each question is answered: values, or why there are none.

    Raises:
        TransportError: nobody answers, or the port cannot be opened. Sleeping: the board rests.
    """
    link = Link(bus, config.timeout_s)
    source = Daly(config, link)
    try:
        info = _open(source)
        answers: dict[str, Any] = {}
        for question, query, raw in _ask_all(source, link):
            try:
                answers[_label(question)] = query.take(raw)
            except FrameError as err:
                answers[_label(question)] = {"error": err.kind, "detail": err.detail}
    finally:
        link.close()
    return {
        "protocol": info.protocol,
        "address": config.address,
        "model": info.model,
        "serial": info.serial,
        "firmware": info.firmware,
        "answers": answers,
    }


def record(config: BmsDevice, bus: Bus, model: str) -> list[dict[str, Any]]:
    """One capture record for each question; answers that name the pack are blanked.

    Raises:
        TransportError: nobody answers, or the port cannot be opened. Sleeping: the board rests.
    """
    link = Link(bus, config.timeout_s)
    source = Daly(config, link)
    try:
        info = _open(source)
        source_text = f"recorded {clock.iso(clock.now())[:10]} by collector-bms record"
        records = []
        for question, query, raw in _ask_all(source, link):
            entry: dict[str, Any] = {
                "id": _label(question),
                "model": model or info.model,
                "firmware": info.firmware,
                "source": source_text,
                "origin": "real",
                "note": "",
                "protocol": "a5" if isinstance(question, int) else "0x81",
                "request": query.request.hex(" "),
                "reply": raw.hex(" "),
            }
            if question in (0x95, 0x96):
                entry["context"] = source.counts()
            if question in NAMES:
                entry |= {
                    "reply": " ".join(["xx"] * len(raw)),
                    "note": f"{NAMES[question]} blanked",
                }
            else:
                try:
                    entry["expect"] = query.take(raw)
                except FrameError as err:
                    entry["error"] = err.kind
            records.append(entry)
        return records
    finally:
        link.close()


def overheard(query: Query, raw: bytes) -> dict[str, Any]:
    """The record of an answer that the running collector got; ``error`` where it says nothing.

    On a shared line a pack's code may also come late, in the place of another pack's answer.
    """
    context = query.context
    result: dict[str, Any] = {
        "protocol": "a5" if query.request[:1] == bytes((a5.START,)) else "0x81",
        "request": query.request.hex(" "),
        "reply": raw.hex(" "),
        "context": {"cells": context.cells, "temp_sensors": context.sensors},
        "current_sign": "inverted" if context.inverted else "normal",
        "balance_order": context.balance_order,
    }
    if _names_pack(query.request) or _CODE.search(raw):
        result |= {"reply": " ".join(["xx"] * len(raw)), "note": "what names the pack is blanked"}
    try:
        codec.decode(query.request, raw, context)
    except FrameError as err:
        if err.kind not in ("exception", "unsupported"):
            result["error"] = err.kind
    return result


def _names_pack(request: bytes) -> bool:
    """Whether the answer to ``request`` holds the battery code, or may."""
    if request[:1] == bytes((a5.START,)):
        return request[2:3] == bytes((CODE,))
    start, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
    first, length = BLOCKS["versions"]
    return start < first + length and first < start + count


def _open(source: Daly) -> Info:
    """Open and identify, by each dialect in turn: a turn of the poll loop tries one only."""
    for _ in range(source.dialects - 1):
        with contextlib.suppress(TransportError):
            return source.open()
    return source.open()


def _ask_all(source: Daly, link: Link) -> list[tuple[Question, Query, bytes]]:
    """What every question of the dialect is answered, damaged or not."""
    result = []
    silent = 0
    for question in source.questions():
        query = source.query(question)
        try:
            result.append((question, query, link.exchange(query)))
            silent = 0
        except NoAnswer:
            silent += 1
            if silent == SILENT_IN_A_ROW:
                break
    return result


def _label(question: Question) -> str:
    return question if isinstance(question, str) else f"0x{question:02X}"
