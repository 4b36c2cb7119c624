"""Libraries without what they drag in; imported before anything else that needs them."""

from typing import Any

from sqlalchemy.engine import make_url
from sunmesh.lean import without

# Flask's command line asks for versions, and with that come readers of e-mail, CSV and ZIP; its
# development server could do TLS, and so could a connection to the database: 2 MiB.
with without("importlib.metadata", ssl=("SSLEOFError", "SSLError")):
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
