"""Connections for pages: to read what was recorded, to write what people decided."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sunmesh.database.sql import engine

from .queries import History, HistoryError, explain

__all__ = ["Database", "HistoryError"]


class Database:
    """Where pages get connections.

    Args:
        url: SQLAlchemy URL of the recorder's database.
        history: whose read-only connections are shared.
    """

    def __init__(self, url: str, history: History) -> None:
        """Nothing connects before the first question."""
        self.url = url
        self._history = history
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that cannot write.

        Raises:
            HistoryError: no database, or not the recorder's; the text is for people.
        """
        with self._history.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction; rolled back when the block raises.

        Raises:
            HistoryError: the database cannot be written; the text is for people.
        """
        try:
            with self.engine().begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as err:
            raise HistoryError(explain(self.url, err)) from err

    def engine(self) -> Engine:
        """For functions of the library that open transactions of their own."""
        with self._lock:
            if self._engine is None:
                self._engine = engine(self.url)
            return self._engine

    def close(self) -> None:
        """Give back the connections."""
        if self._engine is not None:
            self._engine.dispose()
