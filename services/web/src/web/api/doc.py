"""OpenAPI 3.1 of the API, made from the table of its operations and from its schemas."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from . import schemas

ROOT = "/api/v1"
REF = "#/components/schemas/{name}"
PROBLEM = "application/problem+json"
PLACES: Mapping[str, Any] = {
    "device": {"type": "string", "pattern": schemas.DEVICE},
    "code": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{1,64}$"},
    "number": {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,64}$"},
}
"""What stands in a path."""
PROBLEMS = {
    400: "It is not written as the schema says.",
    401: "Nobody is logged in, or the key is not in force.",
    403: "Who asks may not, or not from here, or controls are locked.",
    404: "There is no such thing.",
    409: "It cannot be done now: the text says why.",
    413: "That is too much.",
    415: "The body must be application/json.",
    422: "It is well written and makes no sense.",
    503: "The database or the broker does not answer.",
}
ABOUT = """\
What the house does, what it did, and what it shall do.

Reading needs nothing from inside of the house while `[web] viewing` is open; else, or from \
outside, a session or a key that reads. Commands need a key that commands, or a session of an \
operator who has unlocked controls and sends `X-CSRF-Token`; both only from the local network. \
Keys are made on the page System and sent as `Authorization: Bearer …`.

Times are UTC, units are the suffix of a name, what feeds the house is positive, null is unknown.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked.

    Attributes:
        method: of HTTP.
        path: below :data:`ROOT`, with ``{name}`` for what stands in it.
        name: of its view.
        summary, text: what it does; translated where a page shows them.
        tag: under which heading.
        answer: schema of the body; None = ``media`` says what it is.
        query, body: what it takes.
        media: other forms of the answer: content type and schema.
        problems: what can go wrong, besides what always can.
        status: of the answer.
        writes: whether it takes more than reading.
    """

    method: str
    path: str
    name: str
    summary: str
    text: str
    tag: str
    answer: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    media: Sequence[tuple[str, Any]] = ()
    problems: Sequence[int] = ()
    status: int = 200
    writes: bool = False

    @property
    def places(self) -> list[str]:
        """What stands in the path."""
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def rule(self) -> str:
        """As Flask writes it."""
        return ROOT + re.sub(r"\{(\w+)\}", r"<\1>", self.path)


def _parameters(operation: Operation, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": dict(PLACES[name])}
        for name in operation.places
    ]
    if operation.query is None:
        return found
    schema = parts[operation.query.__name__]
    for name, each in schema["properties"].items():
        kind = {key: value for key, value in each.items() if key != "description"}
        about = each.get("description", "")
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                **({"description": about} if about else {}),
                "schema": kind,
            }
        )
    return found


def _answers(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": schema} for kind, schema in operation.media}
    if operation.answer is not None:
        content["application/json"] = {
            "schema": {"$ref": REF.format(name=operation.answer.__name__)}
        }
    always = [401, 403, 400] if operation.query or operation.body else [401, 403]
    if operation.body:
        always += [413, 415, 422]
    problem = {PROBLEM: {"schema": {"$ref": REF.format(name="Problem")}}}
    found: dict[str, Any] = {
        str(operation.status): {"description": operation.summary, "content": content}
    }
    for status in sorted({*always, *operation.problems}):
        found[str(status)] = {"description": PROBLEMS[status], "content": problem}
    return found


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document.

    Args:
        operations: all of them.
        version: of the portal.
    """
    structs = {
        each.__name__: each
        for operation in operations
        for each in (operation.answer, operation.query, operation.body)
        if each is not None
    } | {"Problem": schemas.Problem, "Event": schemas.Event}
    _, parts = msgspec.json.schema_components(tuple(structs.values()), ref_template=REF)
    paths: dict[str, Any] = {}
    for operation in operations:
        one: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "description": operation.text,
            "tags": [operation.tag],
            "parameters": _parameters(operation, parts),
            "responses": _answers(operation),
            "security": (
                [{"key": []}, {"session": [], "mark": []}]
                if operation.writes
                else [{}, {"key": []}, {"session": []}]
            ),
        }
        if operation.body is not None:
            one["requestBody"] = {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": REF.format(name=operation.body.__name__)}
                    }
                },
            }
        paths.setdefault(ROOT + operation.path, {})[operation.method.lower()] = one
    queries = {each.query.__name__ for each in operations if each.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sunmesh",
            "version": version,
            "description": ABOUT,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in operations)],
        "paths": paths,
        "components": {
            "schemas": {name: part for name, part in parts.items() if name not in queries},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "made on *System*"},
                "session": {"type": "apiKey", "in": "cookie", "name": "sunmesh_session"},
                "mark": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }
