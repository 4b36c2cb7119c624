"""The database of a site: its tables, migrations and what differs between servers.

Shared by the services that store or read; a collector never sees it. Needs the extra ``database``.
"""

from ..lean import without

# For SQLAlchemy's asynchronous half, for drivers that are not ours, for dialects that other
# packages bring, and for TLS, which :func:`sql.driver_options` fetches where it is spoken: 8 MiB a
# process. The names are those that SQLAlchemy looks at when something is raised.
_MYSQL = ("aiomysql", "asyncmy", "cymysql", "mariadbconnector", "mysqlconnector", "pyodbc")
_SQLITE = ("aiosqlite", "pysqlcipher")
with without(
    "importlib.metadata",
    *(f"sqlalchemy.dialects.mysql.{driver}" for driver in _MYSQL),
    *(f"sqlalchemy.dialects.sqlite.{driver}" for driver in _SQLITE),
    asyncio=("iscoroutine", "TimeoutError", "CancelledError"),
    **{"pymysql.optionfile": {"Parser": None}, "ssl": None},
):
    import pymysql  # noqa: F401
    import sqlalchemy.dialects.mysql
    import sqlalchemy.dialects.sqlite  # noqa: F401
