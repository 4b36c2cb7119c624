"""Libraries without what they drag in; imported before anything else that needs them."""

from typing import Any, ClassVar

from sunmesh.lean import without

with without(_hashlib=None):  # OpenSSL, 1 MiB; Python has the same sums of its own
    import hmac  # noqa: F401

    import sunmesh.database  # noqa: F401
    from sqlalchemy.engine import make_url


class NoCommands:
    """What a Flask application and each blueprint have for a command line: nothing."""

    name: str | None = None
    commands: ClassVar[dict[str, object]] = {}


# Flask's command line; a development server, which reads e-mail and knows the names of two thousand
# characters; hints to who mistypes an endpoint; MySQL's option files; TLS to a database on this
# machine: 5 MiB.
_UNUSED: dict[str, Any] = {
    "flask.cli": {"AppGroup": NoCommands},
    "werkzeug.serving": {"run_simple": None, "is_running_from_reloader": None},
    "werkzeug.test": {"Client": None},
    "pymysql.optionfile": {"Parser": None},
    "pprint": {"pformat": repr},
    "ssl": ("SSLEOFError", "SSLError"),
}
with without("click", "difflib", **_UNUSED):
    import flask  # noqa: F401
    from pymysql import connections

HERE = (None, "", "localhost", "127.0.0.1", "::1")

_pymysql: Any = connections
if not hasattr(_pymysql.ssl, "SSLContext"):
    _pymysql.ssl, _pymysql.SSL_ENABLED = None, False


def tls_for(url: str) -> None:
    """TLS, where the database is on another machine, or its address asks for it.

    Args:
        url: SQLAlchemy's.
    """
    place = make_url(url)
    if place.host not in HERE or any("ssl" in key for key in place.query):
        import ssl

        _pymysql.ssl, _pymysql.SSL_ENABLED = ssl, True
