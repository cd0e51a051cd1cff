"""Orders that are the same on both databases, as expressions for a model's indexes.

``fastapi_app/core/ordering.py`` has their counterparts, whose SQL must stay the same for an index to serve it.
"""

from typing import Any

from django.db.models import Func


class Bytewise(Func):
    """Text in the order of its UTF-8 bytes, whatever the database's locale: prefixes are ranges then."""

    template = '%(expressions)s COLLATE "C"'
    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="%(expressions)s COLLATE BINARY", **context)


class Moment(Func):
    """A moment in time. SQLite has text, which its writers give three, six or no digits after the second."""

    template = "%(expressions)s"
    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = (
            "(substr(%(expressions)s || '.000000', 1, 20) || substr(substr(%(expressions)s, 21) || '000000', 1, 6))"
        )
        return self.as_sql(compiler, connection, template=template, **context)
