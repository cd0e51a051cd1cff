"""What changed between two OpenAPI documents, and which changes break clients.

Whether a change breaks depends on who sends the value. What clients send may only be taken more freely: a narrower
type, a lost enum value or a new required field refuses what was good. What they receive may only be given more
strictly: a wider type, a new enum value or a field that may now be missing surprises them. A removed field breaks both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

type Json = Mapping[str, Any]

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: where it is, what it is, and whether a client that did well before may now fail."""

    where: str
    what: str
    is_breaking: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Sender(Enum):
    """Who sends a value."""

    CLIENT = "client"
    SERVER = "server"


def compare(old: Json, new: Json) -> list[Change]:
    """Every difference from ``old`` to ``new`` that a program could notice."""
    return [*_operations(old, new), *_security_schemes(old, new)]


def _operations(old: Json, new: Json) -> Iterator[Change]:
    olds, news = _by_operation(old), _by_operation(new)
    for operation, what, is_breaking in _presence(olds, news):
        yield Change(operation, f"operation {what}", is_breaking)
    for operation in sorted(olds.keys() & news.keys()):
        yield from _Operation(operation, old, new).changes(olds[operation], news[operation])


def _presence(olds: Json, news: Json) -> Iterator[tuple[str, str, bool]]:
    """What is gone and what has come, by name; what is gone is missed."""
    yield from ((name, "removed", True) for name in sorted(olds.keys() - news.keys()))
    yield from ((name, "added", False) for name in sorted(news.keys() - olds.keys()))


def _by_operation(document: Json) -> dict[str, Json]:
    return {
        f"{method.upper()} {path}": item[method]
        for path, item in document.get("paths", {}).items()
        for method in METHODS
        if method in item
    }


def _security_schemes(old: Json, new: Json) -> Iterator[Change]:
    olds, news = (document.get("components", {}).get("securitySchemes", {}) for document in (old, new))
    for name, what, is_breaking in _presence(olds, news):
        yield Change("security", f"scheme {name} {what}", is_breaking)
    for name in sorted(olds.keys() & news.keys()):
        if _without_words(olds[name]) != _without_words(news[name]):
            yield Change("security", f"scheme {name} changed", is_breaking=True)


@dataclass(frozen=True, slots=True)
class _Operation:
    """Compares one operation in two documents, whose components its references lead to."""

    where: str
    old: Json
    new: Json

    def changes(self, old: Json, new: Json) -> Iterator[Change]:
        if old.get("operationId") != new.get("operationId"):
            yield self._change("operationId changed: generated clients call it by that", is_breaking=True)
        if not old.get("deprecated") and new.get("deprecated"):
            yield self._change("deprecated", is_breaking=False)
        yield from self._security(old.get("security", []), new.get("security", []))
        yield from self._parameters(old, new)
        yield from self._body(old.get("requestBody"), new.get("requestBody"))
        yield from self._responses(old.get("responses", {}), new.get("responses", {}))

    def _change(self, what: str, *, is_breaking: bool) -> Change:
        return Change(self.where, what, is_breaking)

    def _security(self, old: list[Json], new: list[Json]) -> Iterator[Change]:
        """Each entry is one way to be let in: a lost one shuts somebody out, a new one lets more in."""
        if lost := [way for way in old if way not in new]:
            yield self._change(f"auth changed: {lost} no longer suffices", is_breaking=bool(new))
        elif gained := [way for way in new if way not in old]:
            yield self._change(f"auth changed: {gained} is now asked for", is_breaking=not old)

    def _parameters(self, old: Json, new: Json) -> Iterator[Change]:
        olds, news = (
            {f"{parameter['in']} parameter {parameter['name']}": parameter for parameter in operation}
            for operation in (old.get("parameters", []), new.get("parameters", []))
        )
        for name in sorted(olds.keys() - news.keys()):
            yield self._change(f"{name} removed", is_breaking=True)
        for name in sorted(news.keys() - olds.keys()):
            required = news[name].get("required", False)
            yield self._change(f"{'required ' if required else ''}{name} added", is_breaking=required)
        for name in sorted(olds.keys() & news.keys()):
            yield from self._required(name, olds[name], news[name])
            yield from self._schemas(olds[name].get("schema", {}), news[name].get("schema", {}), name, Sender.CLIENT)

    def _required(self, name: str, old: Json, new: Json) -> Iterator[Change]:
        before, now = old.get("required", False), new.get("required", False)
        if before != now:
            yield self._change(f"{name} is {'now' if now else 'no longer'} required", is_breaking=now)

    def _body(self, old: Json | None, new: Json | None) -> Iterator[Change]:
        if old is None or new is None:
            if new:
                yield self._change("request body added", is_breaking=new.get("required", False))
            if old:
                yield self._change("request body removed", is_breaking=True)
            return
        yield from self._required("request body", old, new)
        yield from self._contents(old, new, "request body", Sender.CLIENT)

    def _responses(self, old: Json, new: Json) -> Iterator[Change]:
        for status in sorted(old.keys() - new.keys()):
            yield self._change(f"response {status} removed", is_breaking=status.startswith("2"))
        for status in sorted(new.keys() - old.keys()):
            yield self._change(f"response {status} added", is_breaking=False)
        for status in sorted(old.keys() & new.keys()):
            where = f"response {status}"
            yield from self._contents(old[status], new[status], where, Sender.SERVER)
            for name, what, is_breaking in _presence(old[status].get("headers", {}), new[status].get("headers", {})):
                yield self._change(f"{where} header {name} {what}", is_breaking=is_breaking)

    def _contents(self, old: Json, new: Json, where: str, sender: Sender) -> Iterator[Change]:
        olds, news = old.get("content", {}), new.get("content", {})
        for media_type, what, is_breaking in _presence(olds, news):
            yield self._change(f"{where} as {media_type} {what}", is_breaking=is_breaking)
        for media_type in sorted(olds.keys() & news.keys()):
            for key in ("schema", "itemSchema"):
                yield from self._schemas(olds[media_type].get(key, {}), news[media_type].get(key, {}), where, sender)

    def _schemas(self, old: Json, new: Json, where: str, sender: Sender) -> Iterator[Change]:
        schemas = _Schemas(self.old, self.new, sender, set())
        for place, what, is_breaking in schemas.changes(old, new, where):
            yield self._change(f"{place}: {what}", is_breaking=is_breaking)


type _Found = tuple[str, str, bool]

WORDS = frozenset({"title", "description", "example", "examples", "externalDocs", "deprecated", "$comment"})
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
COMPARED = frozenset(
    {"type", "anyOf", "oneOf", "enum", "const", "required", "properties", "items", "additionalProperties", "default"}
    | {*UPPER_BOUNDS, *LOWER_BOUNDS}
)
ANYTHING = "anything"


@dataclass(frozen=True, slots=True)
class _Schemas:
    """Compares schemas of what ``sender`` sends. ``seen`` keeps references that lead to themselves from looping."""

    old: Json
    new: Json
    sender: Sender
    seen: set[tuple[str, str]]

    def _tighter(self, where: str, what: str) -> _Found:
        """Fewer values than before."""
        return where, what, self.sender is Sender.CLIENT

    def _looser(self, where: str, what: str) -> _Found:
        """More values than before."""
        return where, what, self.sender is Sender.SERVER

    def changes(self, old: Json, new: Json, where: str) -> Iterator[_Found]:
        references = (old.get("$ref", ""), new.get("$ref", ""))
        if all(references) and references in self.seen:
            return
        self.seen.add(references)
        olds, news = _variants(old, self.old), _variants(new, self.new)
        for kind in olds.keys() - news.keys():
            yield self._tighter(where, f"can no longer be {kind}")
        for kind in news.keys() - olds.keys():
            yield self._looser(where, f"can now be {kind}")
        for kind in olds.keys() & news.keys():
            yield from self._of_one_type(olds[kind], news[kind], where)
        if (before := old.get("default")) != (now := new.get("default")):
            yield where, f"default changed from {before!r} to {now!r}", self.sender is Sender.CLIENT

    def _of_one_type(self, old: Json, new: Json, where: str) -> Iterator[_Found]:
        yield from self._values(_values(old), _values(new), where)
        yield from self._bounds(old, new, where)
        yield from self._required_fields(old, new, where)
        yield from self._fields(old, new, where)
        if "items" in old or "items" in new:
            yield from self.changes(old.get("items", {}), new.get("items", {}), f"{where}[]")
        yield from self._other_fields(old, new, where)
        for key in sorted((old.keys() | new.keys()) - COMPARED - WORDS):
            if old.get(key) != new.get(key):
                yield where, f"{key} changed from {old.get(key)!r} to {new.get(key)!r}", True

    def _values(self, old: list[Any] | None, new: list[Any] | None, where: str) -> Iterator[_Found]:
        if old is None and new is not None:
            yield self._tighter(where, f"only {new} now")
        elif old is not None and new is None:
            yield self._looser(where, f"no longer only {old}")
        elif old is not None and new is not None:
            if lost := [value for value in old if value not in new]:
                yield self._tighter(where, f"values {lost} removed")
            if gained := [value for value in new if value not in old]:
                yield self._looser(where, f"values {gained} added")

    def _bounds(self, old: Json, new: Json, where: str) -> Iterator[_Found]:
        for names, sign, none in ((UPPER_BOUNDS, 1, float("inf")), (LOWER_BOUNDS, -1, float("-inf"))):
            for name in names:
                before, now = old.get(name, none), new.get(name, none)
                if before != now:
                    outcome = self._tighter if sign * now < sign * before else self._looser
                    yield outcome(where, f"{name} changed from {old.get(name)} to {new.get(name)}")

    def _required_fields(self, old: Json, new: Json, where: str) -> Iterator[_Found]:
        olds, news = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(news - olds):
            if name in old.get("properties", {}):
                yield self._tighter(f"{where}.{name}", "is now required")
        for name in sorted(olds - news):
            if name in new.get("properties", {}):
                yield self._looser(f"{where}.{name}", "is no longer required")

    def _fields(self, old: Json, new: Json, where: str) -> Iterator[_Found]:
        olds, news = old.get("properties", {}), new.get("properties", {})
        for name in sorted(olds.keys() - news.keys()):
            yield f"{where}.{name}", "field removed", True
        for name in sorted(news.keys() - olds.keys()):
            must_be_sent = name in new.get("required", ()) and self.sender is Sender.CLIENT
            yield f"{where}.{name}", "required field added" if must_be_sent else "field added", must_be_sent
        for name in sorted(olds.keys() & news.keys()):
            yield from self.changes(olds[name], news[name], f"{where}.{name}")

    def _other_fields(self, old: Json, new: Json, where: str) -> Iterator[_Found]:
        before, now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from self.changes(before, now, f"{where}.*")
        elif before != now:
            outcome = self._tighter if before is True or now is False else self._looser
            yield outcome(where, "other fields are now refused" if now is False else "other fields changed")


def _variants(schema: Json, document: Json) -> dict[str, Json]:
    """The alternatives of a schema, each of one type, by what tells them apart: their type, or their name too."""
    found = list(_flattened(schema, document))
    types = [kind for kind, _name, _variant in found]
    return {
        kind if types.count(kind) == 1 else f"{kind} {name or index}": variant
        for index, (kind, name, variant) in enumerate(found)
    }


def _flattened(schema: Json, document: Json, name: str = "") -> Iterator[tuple[str, str, Json]]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = {**document["components"]["schemas"][name], **{key: schema[key] for key in schema if key != "$ref"}}
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives:
        for alternative in alternatives:
            yield from _flattened(alternative, document)
        return
    types = schema.get("type", ANYTHING)
    for kind in types if isinstance(types, list) else [types]:
        yield kind, name, schema


def _values(schema: Json) -> list[Any] | None:
    """The only values that a schema allows, when it names them."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_words(value[key]) for key in value if key not in WORDS}
    return value
