"""Libraries without what they drag in; imported before anything else that needs them."""

from typing import Any, ClassVar

from sunmesh.lean import without

with without(_hashlib=None):  # OpenSSL, 1 MiB; Python has the same sums of its own
    import hmac  # noqa: F401

    import sunmesh.database  # noqa: F401


class NoCommands:
    """What a Flask application and each blueprint have for a command line: nothing."""

    name: str | None = None
    commands: ClassVar[dict[str, object]] = {}


# Flask's command line; a development server, which reads e-mail and knows the names of two thousand
# characters; hints to who mistypes an endpoint: 5 MiB.
_UNUSED: dict[str, Any] = {
    "flask.cli": {"AppGroup": NoCommands},
    "werkzeug.serving": {"run_simple": None, "is_running_from_reloader": None},
    "werkzeug.test": {"Client": None},
    "pprint": {"pformat": repr},
}
with without("click", "difflib", **_UNUSED):
    import flask  # noqa: F401
