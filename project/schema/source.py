"""Python source: calls, literals and imports, laid out exactly as ruff would, with no tool at run time."""

import datetime
import decimal
import enum
import math
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from project.config import BASE_DIR

LINE_LENGTH = 120
"""Characters; ``[tool.ruff] line-length``."""
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Source:
    """An expression and the dotted names it needs: ``datetime`` is a module, ``decimal.Decimal`` a name in one."""

    code: str
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call that may need several lines; an argument is an expression, a keyword with one, or another call.

    Without a function it is a tuple.
    """

    function: str
    arguments: Sequence["str | Call"]

    def __str__(self) -> str:
        only = "," if not self.function and len(self.arguments) == 1 else ""
        return f"{self.function}({', '.join(map(str, self.arguments))}{only})"

    def lines(self, before: str, indent: str, after: str = "") -> list[str]:
        """The statement ``before`` + call + ``after``: on one line where it fits, else with an argument a line."""
        if len(line := f"{indent}{before}{self}{after}") <= LINE_LENGTH or not self.arguments:
            return [line]
        inner = indent + INDENT
        arguments = (
            argument.lines("", inner, ",") if isinstance(argument, Call) else [f"{inner}{argument},"]
            for argument in self.arguments
        )
        return [
            f"{indent}{before}{self.function}(",
            *(line for part in arguments for line in part),
            f"{indent}){after}",
        ]


def literal(value: object) -> Source:
    """The expression that makes ``value`` again.

    Raises:
        ValueError: there is none for a value of this type.
    """
    if isinstance(value, enum.Enum):  # A choice, of which the database has the value.
        value = value.value
    match value:
        case str():
            return Source(quoted(value))
        case bytes():
            return Source(f"b{_requoted(repr(value)[1:])}")
        case decimal.Decimal() | uuid.UUID():
            name = type(value).__name__
            return Source(f'{name}("{value}")', (f"{type(value).__module__}.{name}",))
        case datetime.datetime() | datetime.date() | datetime.time():
            return Source(f'datetime.{type(value).__name__}.fromisoformat("{value.isoformat()}")', ("datetime",))
        case datetime.timedelta():
            return Source(repr(value), ("datetime",))
        case None | bool() | int() | float() if value is None or math.isfinite(value):
            return Source(repr(value))
    raise ValueError(f"no literal makes {value!r}")


def quoted(text: str) -> str:
    """A string literal in the quotes that need fewer escapes, double ones on a tie."""
    return _requoted(repr(str(text)))


def _requoted(literal_text: str) -> str:
    quote, body = literal_text[0], literal_text[1:-1]
    bare = body.replace(f"\\{quote}", quote)
    wanted = '"' if bare.count('"') <= bare.count("'") else "'"
    return wanted + bare.replace(wanted, f"\\{wanted}") + wanted


def imports(names: Iterable[str]) -> str:
    """The import statements for dotted names, in ruff's sections and order; ``sqlalchemy`` is called ``sa``."""
    whole: set[str] = set()
    members: dict[str, set[str]] = {}
    for name in names:
        module, _, member = name.rpartition(".")
        if module:
            members.setdefault(module, set()).add(member)
        else:
            whole.add(member)
    sections: dict[int, list[str]] = {}
    for module in sorted(whole):
        sections.setdefault(_section(module), []).append(_import_module(module))
    for module in sorted(members):
        sections.setdefault(_section(module), []).append(_import_members(module, members[module]))
    return "\n\n".join("\n".join(sections[section]) for section in sorted(sections))


def _section(module: str) -> int:
    """Standard library, others' packages, this project: in that order."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return 0
    return 2 if (BASE_DIR / package).is_dir() or (BASE_DIR / f"{package}.py").is_file() else 1


def _import_module(module: str) -> str:
    return "import sqlalchemy as sa" if module == "sqlalchemy" else f"import {module}"


def _import_members(module: str, members: Iterable[str]) -> str:
    ordered = sorted(members, key=lambda name: (_rank(name), name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= LINE_LENGTH:
        return line
    return "\n".join([f"from {module} import (", *(f"{INDENT}{name}," for name in ordered), ")"])


def _rank(name: str) -> int:
    """Constants, then classes, then functions."""
    return 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
