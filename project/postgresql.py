"""Django's connections to PostgreSQL."""

from typing import Any

from psycopg import Connection
from psycopg.abc import PQGen

from project.lanes import aside


class ConsiderateConnection[Row](Connection[Row]):
    """Gives up its thread's slot in a lane while PostgreSQL works, whatever it works at (see project.lanes).

    A COMMIT checks the foreign keys, and waits for whoever has locked a row that they refer to; a fetch of
    ``iterator()``, a COPY or a procedure may take as long as any statement. None of them passes an ``execute_wrapper``.
    """

    def wait[T](self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for PostgreSQL: all that psycopg does on a connection waits here."""
        with aside():
            return super().wait(gen, *args, **kwargs)
