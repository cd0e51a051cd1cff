"""The generated file: what it should say, what it says, and writing it."""

import difflib
from pathlib import Path

from django.conf import settings

from project.config import BASE_DIR
from project.schema.render import render


def drift() -> list[str]:
    """A unified diff, line by line, from the file to what the models say; empty when they agree.

    Raises:
        CannotMap: a model cannot be written down.
    """
    return list(
        difflib.unified_diff(
            _written().splitlines(keepends=True),
            _said_by_models().splitlines(keepends=True),
            fromfile=file_name(),
            tofile="the models",
        )
    )


def write() -> bool:
    """Write the file if it does not say what the models say; whether it was written. Raises what ``drift`` raises."""
    text = _said_by_models()
    if text == _written():
        return False
    _path().write_text(text, encoding="utf-8", newline="\n")
    return True


def file_name() -> str:
    """The file's path from the project's folder, for people."""
    path = _path()
    return str(path.relative_to(BASE_DIR)) if path.is_relative_to(BASE_DIR) else str(path)


def _path() -> Path:
    return Path(settings.SCHEMA_FILE)


def _written() -> str:
    return _path().read_text(encoding="utf-8") if _path().exists() else ""


def _said_by_models() -> str:
    return render(settings.SCHEMA_APPS)
