"""The database of a site: its tables, migrations and what differs between servers.

Shared by the services that store or read; a collector never sees it. Needs the extra ``database``.
"""

from ..lean import without

# For its asynchronous half, and for dialects that other packages bring: 5 MiB a process. The names
# are those that SQLAlchemy looks at when it is imported and when something is raised.
with without("importlib.metadata", asyncio=("iscoroutine", "TimeoutError", "CancelledError")):
    import sqlalchemy.dialects.mysql
    import sqlalchemy.dialects.sqlite  # noqa: F401
