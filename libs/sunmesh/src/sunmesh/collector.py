"""A collector's five verbs: ``run``, ``probe``, ``decode``, ``record``, ``emulate``.

Every collector is a :class:`Family` and calls :func:`main` with it, so a reader who knows the
command line of one knows all.
"""

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import config, service
from .config import Site
from .errors import ConfigError, FrameError, SunmeshError
from .messages import Value
from .mqtt import Mesh
from .poll import Poller

Parser = argparse.ArgumentParser
Records = Sequence[Mapping[str, object]]
"""Answers as they came, each with what was asked: a capture file."""


class Help(argparse.HelpFormatter):
    """As wide as the terminal, which is asked without shutil and the compressors it draws in."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else 0
        if not width:
            try:
                width = os.get_terminal_size(1).columns
            except OSError:
                width = 0
        super().__init__(prog, width=(width or 80) - 2)


class LightParser(Parser):
    """For a process that stays: argparse makes a formatter to check its arguments, too."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(**{"formatter_class": Help} | options)


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between two collectors.

    Attributes:
        name: folder, image and script: ``collector-axpert``.
        version: of the service.
        about: one line for ``--help``.
        pollers: the site's devices of this family, each with its poller, from the configuration.
        decode: one captured answer (a JSON object as in ``decode -``) → what is printed for it,
            usually ``{"values": {...}}``; raises :class:`FrameError`.
        decode_arguments: options of ``decode`` for one answer.
        decode_request: those options → the JSON object for ``decode``.
        probe_arguments, probe: how a device is reached, and what is found there, as JSON.
        record_arguments, record: the same, and the records of a capture file.
        emulate_arguments, emulate: ``emulate`` is the device until the event is set.
    """

    name: str
    version: str
    about: str
    pollers: Callable[[Site, Mesh], list[Poller]]
    decode: Callable[[Mapping[str, Any]], dict[str, Any]]
    decode_arguments: Callable[[Parser], None]
    decode_request: Callable[[argparse.Namespace], dict[str, Any]]
    probe_arguments: Callable[[Parser], None]
    probe: Callable[[argparse.Namespace], object]
    record_arguments: Callable[[Parser], None]
    record: Callable[[argparse.Namespace], Records]
    emulate_arguments: Callable[[Parser], None]
    emulate: Callable[[argparse.Namespace, threading.Event], int]


def main(family: Family, arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        The exit status: 0 done, 1 a device or a frame said no, 2 wrong arguments or configuration.
    """
    parser = LightParser(prog=family.name, description=family.about)
    parser.add_argument("--version", action="version", version=family.version)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = sys.argv[1:] if arguments is None else arguments

    run = verbs.add_parser("run", help="poll the configured devices and publish them")
    add_config_argument(run)
    probe = verbs.add_parser("probe", help="say what is on a port")
    family.probe_arguments(probe)
    decode = verbs.add_parser(
        "decode",
        help="decode a captured answer; - reads JSON lines",
        description="Prints one JSON object an answer. A bad one: with -, a line "
        '{"error":kind,"detail":text}; else one line on stderr and status 1.',
    )
    decode.add_argument("source", nargs="?", choices=["-"], help="read JSON lines from stdin")
    family.decode_arguments(decode)
    record = verbs.add_parser("record", help="write raw answers into a capture file")
    family.record_arguments(record)
    record.add_argument("--output", type=Path, required=True, metavar="FILE")
    emulate = verbs.add_parser("emulate", help="be such a device, for tests and the demo")
    if "emulate" in words:  # only then is the emulation loaded: 0.3 MiB in every collector
        family.emulate_arguments(emulate)

    options = parser.parse_args(arguments)
    service.setup_logging(options.log_level)
    match options.verb:
        case "run":
            return _run(family, options)
        case "decode":
            return _decode(family, options)
        case "probe":
            return _report(lambda: _probe(family, options))
        case "record":
            return _report(lambda: _record(family, options))
        case _:
            return _report(lambda: family.emulate(options, service.stop_event()))


def add_config_argument(parser: Parser) -> None:
    """``--config FILE``, the same for every verb and service."""
    parser.add_argument(
        "--config",
        type=Path,
        default=config.default_path(),
        metavar="FILE",
        help="the site's configuration (default: SUNMESH_CONFIG, else site.toml)",
    )


def add_label_argument(parser: Parser) -> None:
    """``--model`` of ``record``: what a capture says of a device that does not say it itself."""
    parser.add_argument("--model", default="", help="as its label says, for the file")


def _run(family: Family, options: argparse.Namespace) -> int:
    site = config.load(options.config, family.name)
    mesh = Mesh(site.broker, site.topics, family.name)
    pollers = family.pollers(site, mesh)
    if not pollers:
        raise ConfigError(
            f"{options.config}: no device for {family.name}; add a table [devices.NAME]"
        )

    for poller in pollers:
        poller.listen()

    def work(stop: threading.Event) -> None:
        """One thread a device: a dead one stalls none of the others."""
        threads = [
            threading.Thread(target=poller.run, args=(stop,), name=poller.device, daemon=True)
            for poller in pollers
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for poller in pollers:
            poller.nudge()
        for thread, poller in zip(threads, pollers, strict=True):
            thread.join(0.8 / len(threads))
            if thread.is_alive():
                poller.end()

    def counters() -> dict[str, int | float | str | None]:
        values: dict[str, int | float | str | None] = {}
        for poller in pollers:
            values |= {f"{poller.device}_{name}": n for name, n in poller.health().items()}
        return values

    return service.run(family.name, family.version, mesh, work, counters)


def _probe(family: Family, options: argparse.Namespace) -> int:
    print(json.dumps(family.probe(options), indent=2, ensure_ascii=False))
    return 0


def _record(family: Family, options: argparse.Namespace) -> int:
    records = family.record(options)
    lines = ",\n ".join(json.dumps(record, ensure_ascii=False) for record in records)
    options.output.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    print(f"{options.output}: {len(records)} answers; look through it before you share it")
    return 0


def _decode(family: Family, options: argparse.Namespace) -> int:
    if options.source == "-":
        for line in decode_lines(family, sys.stdin):
            print(line, flush=True)
        return 0
    try:
        print(_json(family.decode(family.decode_request(options))))
    except FrameError as err:
        print(f"{family.name}: {err}", file=sys.stderr)
        return 1
    return 0


def decode_lines(family: Family, lines: Iterable[str]) -> Iterable[str]:
    """For each JSON line of ``lines`` one JSON line: what it decodes to, or why it does not."""
    for line in lines:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise FrameError("shape", "the line is no JSON object")
            answer = family.decode(request)
        except FrameError as err:
            answer = {"error": err.kind, "detail": err.detail}
        except (ValueError, TypeError, KeyError) as err:
            answer = {"error": "shape", "detail": f"the line cannot be read: {err}"}
        yield _json(answer)


def values_of(values: Mapping[str, Value]) -> dict[str, Any]:
    """What ``decode`` prints for ``values``."""
    return {"values": dict(values)}


def hex_bytes(text: object, name: str) -> bytes:
    """The bytes that ``text`` spells in hex, blanks allowed.

    Raises:
        FrameError: ``shape``: not hex.
    """
    try:
        return bytes.fromhex(str(text))
    except ValueError as err:
        raise FrameError("shape", f"{name} is not hex: {err}") from err


def _report(verb: Callable[[], int]) -> int:
    """Run a verb; what goes wrong with a device is one line and status 1."""
    try:
        return verb()
    except ConfigError:
        raise
    except SunmeshError as err:
        print(err, file=sys.stderr)
        return 1


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
