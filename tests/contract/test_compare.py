"""What breaks clients: each kind of change in what they send, in what they receive, and in how they are let in."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from contract.compare import compare

type Document = dict[str, Any]
type Edit = Callable[[Document], object]

THING = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 9},
        "name": {"type": "string", "minLength": 1, "maxLength": 9},
        "size": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "colour": {"type": "string", "enum": ["red", "green"]},
        "parts": {"type": "array", "items": {"type": "string"}},
        "parent": {"$ref": "#/components/schemas/Sent"},
    },
}


def document() -> Document:
    """One operation that takes a ``Sent`` and gives a ``Received``, which begin as the same."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Sent"}}}
    parameter = {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 200, "default": 50}}
    received = copy.deepcopy(THING)
    received["properties"]["parent"]["$ref"] = "#/components/schemas/Received"  # type: ignore[index]
    return {
        "paths": {
            "/things": {
                "post": {
                    "operationId": "make_thing",
                    "security": [{"oauth2": ["things:write"]}, {"bearer": []}],
                    "parameters": [parameter],
                    "requestBody": {"required": True, "content": content},
                    "responses": {
                        "201": {
                            "description": "Made",
                            "headers": {"Location": {"schema": {"type": "string"}}},
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Received"}}},
                        },
                        "409": {"description": "Taken"},
                    },
                },
            }
        },
        "components": {
            "schemas": {"Sent": copy.deepcopy(THING), "Received": received},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A token."}},
        },
    }


def operation(of: Document) -> Document:
    found: Document = of["paths"]["/things"]["post"]
    return found


def after(edit: Edit) -> list[tuple[str, bool]]:
    """The changes that an edit of the document makes, and whether each breaks."""
    new = document()
    edit(new)
    return [(str(change), change.is_breaking) for change in compare(document(), new)]


def schema_edit(name: str, edit: Edit) -> Edit:
    return lambda new: edit(new["components"]["schemas"][name])


def prop(name: str, **members: object) -> Edit:
    return lambda schema: schema["properties"][name].update(members)


def retyped(name: str, schema_of_it: Document) -> Edit:
    return lambda schema: schema["properties"].update({name: schema_of_it})


TIGHTER: dict[str, tuple[Edit, str]] = {
    "optional field required": (lambda s: s["required"].append("name"), ".name: is now required"),
    "maximum lowered": (prop("id", maximum=8), ".id: maximum changed from 9 to 8"),
    "minimum raised": (prop("id", minimum=2), ".id: minimum changed from 1 to 2"),
    "length lowered": (prop("name", maxLength=8), ".name: maxLength changed from 9 to 8"),
    "length demanded": (prop("name", minLength=2), ".name: minLength changed from 1 to 2"),
    "bound added": (prop("size", anyOf=[{"type": "number", "maximum": 5}, {"type": "null"}]), ".size: maximum"),
    "enum value removed": (prop("colour", enum=["red"]), ".colour: values ['green'] removed"),
    "enum introduced": (prop("name", enum=["a"]), ".name: only ['a'] now"),
    "null refused": (retyped("size", {"type": "number"}), ".size: can no longer be null"),
    "items bounded": (prop("parts", items={"type": "string", "maxLength": 3}), ".parts[]: maxLength"),
    "fewer items": (prop("parts", maxItems=3), ".parts: maxItems changed from None to 3"),
}
LOOSER: dict[str, tuple[Edit, str]] = {
    "required field optional": (lambda s: s.update(required=[]), ".id: is no longer required"),
    "maximum raised": (prop("id", maximum=10), ".id: maximum changed from 9 to 10"),
    "minimum lowered": (prop("id", minimum=0), ".id: minimum changed from 1 to 0"),
    "length raised": (prop("name", maxLength=10), ".name: maxLength changed from 9 to 10"),
    "enum value added": (prop("colour", enum=["red", "green", "blue"]), ".colour: values ['blue'] added"),
    "enum given up": (retyped("colour", {"type": "string"}), ".colour: no longer only ['red', 'green']"),
    "null allowed": (retyped("id", {"type": ["integer", "null"], "minimum": 1, "maximum": 9}), ".id: can now be null"),
    "other fields allowed": (lambda s: s.update(additionalProperties=True), ": other fields changed"),
}
BREAKS_BOTH: dict[str, tuple[Edit, str]] = {
    "field removed": (lambda s: s["properties"].pop("name"), ".name: field removed"),
    "pattern changed": (prop("name", pattern="^a"), ".name: pattern changed from None to '^a'"),
    "format changed": (prop("name", format="uuid"), ".name: format changed from None to 'uuid'"),
}


def only(found: list[tuple[str, bool]], text: str) -> bool:
    """Whether the one change that was found, wherever the schema refers to it, breaks."""
    assert found, "nothing was found"
    assert all(text in change for change, _breaks in found), found
    (breaks,) = {breaks for _change, breaks in found}
    return breaks


@pytest.mark.parametrize(("edit", "text"), TIGHTER.values(), ids=TIGHTER)
def test_tighter__breaks_who_sends_it_and_not_who_receives_it(edit: Edit, text: str) -> None:
    assert only(after(schema_edit("Sent", edit)), text) is True
    assert only(after(schema_edit("Received", edit)), text) is False


@pytest.mark.parametrize(("edit", "text"), LOOSER.values(), ids=LOOSER)
def test_looser__breaks_who_receives_it_and_not_who_sends_it(edit: Edit, text: str) -> None:
    assert only(after(schema_edit("Sent", edit)), text) is False
    assert only(after(schema_edit("Received", edit)), text) is True


@pytest.mark.parametrize(("edit", "text"), BREAKS_BOTH.values(), ids=BREAKS_BOTH)
@pytest.mark.parametrize("name", ["Sent", "Received"])
def test_removed_or_of_another_kind__breaks_both(name: str, edit: Edit, text: str) -> None:
    assert only(after(schema_edit(name, edit)), text) is True


@pytest.mark.parametrize("name", ["Sent", "Received"])
def test_other_type__breaks_both(name: str) -> None:
    found = after(schema_edit(name, retyped("name", {"type": "integer"})))

    assert {"can no longer be string", "can now be integer"} == {change.rpartition(": ")[2] for change, _ in found}
    assert any(breaks for _change, breaks in found)


def test_new_field__breaks_only_who_must_send_it() -> None:
    def new_field(schema: Document) -> None:
        schema["properties"]["weight"] = {"type": "number"}

    def new_required_field(schema: Document) -> None:
        new_field(schema)
        schema["required"].append("weight")

    assert only(after(schema_edit("Sent", new_field)), ".weight: field added") is False
    assert only(after(schema_edit("Received", new_field)), ".weight: field added") is False
    assert only(after(schema_edit("Sent", new_required_field)), ".weight: required field added") is True
    assert only(after(schema_edit("Received", new_required_field)), ".weight: field added") is False


OPERATIONS: dict[str, tuple[Edit, str, bool]] = {
    "operation removed": (lambda d: d["paths"].clear(), "POST /things: operation removed", True),
    "operation added": (lambda d: d["paths"]["/things"].update(get={}), "GET /things: operation added", False),
    "renamed": (lambda d: operation(d).update(operationId="make"), "operationId changed", True),
    "deprecated": (lambda d: operation(d).update(deprecated=True), "POST /things: deprecated", False),
    "parameter removed": (lambda d: operation(d)["parameters"].clear(), "query parameter limit removed", True),
    "parameter added": (
        lambda d: operation(d)["parameters"].append({"in": "query", "name": "q"}), "query parameter q added", False,
    ),
    "required parameter added": (
        lambda d: operation(d)["parameters"].append({"in": "header", "name": "If-Match", "required": True}),
        "required header parameter If-Match added", True,
    ),
    "parameter now required": (
        lambda d: operation(d)["parameters"][0].update(required=True), "limit is now required", True,
    ),
    "parameter narrowed": (
        lambda d: operation(d)["parameters"][0]["schema"].update(maximum=100), "maximum changed from 200 to 100", True,
    ),
    "parameter's default changed": (
        lambda d: operation(d)["parameters"][0]["schema"].update(default=20), "default changed from 50 to 20", True,
    ),
    "body removed": (lambda d: operation(d).pop("requestBody"), "request body removed", True),
    "body optional": (
        lambda d: operation(d)["requestBody"].update(required=False), "request body is no longer required", False,
    ),
    "body in another format": (
        lambda d: operation(d)["requestBody"]["content"].update({"text/csv": {}}), "body as text/csv added", False,
    ),
    "success removed": (lambda d: operation(d)["responses"].pop("201"), "response 201 removed", True),
    "error removed": (lambda d: operation(d)["responses"].pop("409"), "response 409 removed", False),
    "error added": (lambda d: operation(d)["responses"].update({"412": {}}), "response 412 added", False),
    "format of the answer removed": (
        lambda d: operation(d)["responses"]["201"]["content"].clear(), "response 201 as application/json removed", True,
    ),
    "header of the answer removed": (
        lambda d: operation(d)["responses"]["201"]["headers"].clear(), "response 201 header Location removed", True,
    ),
    "another scope demanded": (
        lambda d: operation(d)["security"][0].update(oauth2=["things:admin"]), "no longer suffices", True,
    ),
    "one way in closed": (lambda d: operation(d)["security"].pop(), "no longer suffices", True),
    "another way in": (lambda d: operation(d)["security"].append({"key": []}), "is now asked for", False),
    "made public": (lambda d: operation(d)["security"].clear(), "no longer suffices", False),
    "scheme changed": (
        lambda d: d["components"]["securitySchemes"]["bearer"].update(scheme="basic"), "scheme bearer changed", True,
    ),
    "scheme removed": (lambda d: d["components"]["securitySchemes"].clear(), "scheme bearer removed", True),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "text", "breaks"), OPERATIONS.values(), ids=OPERATIONS)
def test_operation__changed__breaks_when_a_client_could_notice(edit: Edit, text: str, *, breaks: bool) -> None:
    assert only(after(edit), text) is breaks


def test_operation__that_was_public__now_asks_who_calls__breaks() -> None:
    public = document()
    operation(public)["security"] = []

    assert only([(str(c), c.is_breaking) for c in compare(public, document())], "is now asked for") is True


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: None,
        lambda d: operation(d).update(summary="Make", description="Make a thing."),
        schema_edit("Sent", prop("name", description="What it is called.", examples=["a"])),
        lambda d: d["components"]["securitySchemes"]["bearer"].update(description="A good token."),
        lambda d: d["components"]["schemas"]["Sent"]["required"].reverse(),
    ],
)
def test_words__changed__are_no_change(edit: Edit) -> None:
    assert after(edit) == []


def test_schema__renamed_or_moved_behind_a_reference__is_no_change() -> None:
    def rename(new: Document) -> None:
        schemas = new["components"]["schemas"]
        schemas["Name"] = schemas["Sent"]["properties"]["name"]
        schemas["Sent"]["properties"]["name"] = {"$ref": "#/components/schemas/Name"}

    assert after(rename) == []
