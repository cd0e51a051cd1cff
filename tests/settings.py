"""The project's settings, and one more app: it has a model for every field type, and a tables module of its own."""

from project.config import BASE_DIR
from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.schema.everyfield"]

# `python manage.py generate_tables --settings tests.settings` writes it anew.
SCHEMA_APPS = ["everyfield"]
SCHEMA_FILE = BASE_DIR / "tests" / "schema" / "everyfield" / "tables.py"
SILENCED_SYSTEM_CHECKS = [
    "fields.E210",  # An ImageField asks for Pillow; its column does not.
    "fields.W161",  # Fixed dates as defaults are what the tests want.
]
