"""Django's SQL for a model as SQLite gets it, told from the model alone: the project's database is not asked.

The generator reads the text of constraints from it, so that the text is the same whichever database a project
uses; a check runs it on a connection that has none of the SQL functions that Django adds to its own.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.utils import ConnectionHandler

_UNKNOWN_FUNCTION = re.compile(r"(?:no such|unknown) function: (\w+)")


@contextmanager
def schema_editor() -> Iterator[BaseDatabaseSchemaEditor]:
    """An editor that collects SQL instead of running it, on a database in memory."""
    connection = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})["default"]
    try:
        with connection.schema_editor(collect_sql=True, atomic=False) as editor:
            yield editor
    finally:
        if connection.connection is not None:
            connection.connection.close()  # Django's own close() keeps a database in memory, which it would lose.


def check_condition(model: type[models.Model], constraint: models.CheckConstraint) -> str:
    """What a check constraint demands, in SQL."""
    with schema_editor() as editor:
        sql = str(constraint.constraint_sql(model, editor))
        return sql.removeprefix(f"CONSTRAINT {editor.quote_name(constraint.name)} CHECK (").removesuffix(")")


def index(model: type[models.Model], declared: models.Index | models.UniqueConstraint) -> tuple[str, str]:
    """What an index, or the one of a unique constraint, is on, and its condition or an empty text, in SQL."""
    with schema_editor() as editor:
        parts: dict[str, object] = vars(declared.create_sql(model, editor))["parts"]
        return str(parts["columns"]), str(parts["condition"]).removeprefix(" WHERE ")


def missing_function(model: type[models.Model]) -> str | None:
    """A function that a row of this model needs and SQLite itself has not, or None."""
    with schema_editor() as editor:
        editor.create_model(model)
    # Constraints and indexes name their functions when they are made, defaults when a row is inserted.
    insertion = f"INSERT INTO {editor.quote_name(model._meta.db_table)} DEFAULT VALUES"
    with closing(sqlite3.connect(":memory:")) as plain:
        for statement in [*editor.collected_sql, insertion]:
            try:
                plain.execute(statement)
            except sqlite3.Error as error:
                if unknown := _UNKNOWN_FUNCTION.search(str(error)):
                    return unknown[1]
    return None
