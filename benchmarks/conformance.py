"""Before anything is timed: every peer answers the same requests alike, or the comparison would mean nothing."""

import base64
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.servers import Server
from benchmarks.world import AUDIENCE, ISSUER, BenchmarkError, World, signed_cursor

FIELDS = {"id", "email", "display_name", "is_active", "is_staff", "created_at", "updated_at"}
PAGE = 50
HOUR_S = 3_600
"""Far beyond the minute or so by which a verifier may let clocks differ."""


def cursor_after(last_id: int, server: Server, world: World) -> str:
    """The cursor to what follows this id: the product signs its own, the others' is the id in unpadded base64."""
    if server.peer.signs_cursors:
        return signed_cursor(world, last_id)
    return base64.urlsafe_b64encode(b"%d" % last_id).rstrip(b"=").decode()


@dataclass(frozen=True)
class Tokens:
    """A good token, one without scopes, one that nobody signed, and some that are signed but not to be believed."""

    good: str
    without_scope: str
    invalid: Mapping[str, str]
    """By what is wrong with them."""

    @classmethod
    def issued_by(cls, world: World) -> "Tokens":
        """All of them; the product signs each."""
        good = world.token()
        return cls(good, world.token(""), _invalid(world, good))

    @property
    def forged(self) -> str:
        head, _, signature = self.good.rpartition(".")
        return f"{head}.{signature[:-8]}{'A' * 8}"


def _invalid(world: World, good: str) -> dict[str, str]:
    """The good token with one thing changed and signed anew, so that nothing but this can be why it is refused."""
    now = int(time.time())
    changes = {
        "a wrong audience": {"aud": f"{AUDIENCE}-other"},
        "a wrong issuer": {"iss": f"{ISSUER}/other"},
        "an expired token": {"iat": now - 2 * HOUR_S, "exp": now - HOUR_S},
    }
    sign = (
        "import json; from project.identity.tokens import ACCESS_TOKEN_TYPE as TYPE, claims_of, sign; "
        f"claims = claims_of({good!r}, TYPE); "
        f"print(json.dumps({{name: sign(claims | change, TYPE) for name, change in {changes!r}.items()}}))"
    )
    signed: dict[str, str] = json.loads(world.manage("large", "shell", "--no-imports", "-c", sign))
    return signed


@dataclass(frozen=True)
class Client:
    """Speaks to one peer's users."""

    server: Server
    token: str | None

    def send(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status, and the body when it is JSON. ``path`` begins where the peer's users are."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            text = json.dumps(body) if body is not None else None
            connection.request(method, f"{self.server.peer.users}{path}", body=text, headers=headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        is_json = "json" in (response.getheader("Content-Type") or "")
        return response.status, json.loads(content) if is_json and content else None


def check(server: Server, tokens: Tokens, reference: dict[str, Any], deep_cursor: str) -> None:
    """Compare one peer with what the first one answered (``reference``, filled by the first).

    Raises:
        BenchmarkError: it answers differently.
    """
    client = Client(server, tokens.good)
    name = server.peer.name
    if server.get(server.peer.ping) != http.HTTPStatus.OK:
        raise BenchmarkError(f"{name}: ping is not 200")
    answers = {
        "get": _expect(name, 200, client.send("GET", "/2")),
        "page": _expect(name, 200, client.send("GET", f"?limit={PAGE}")),
        "default page": _expect(name, 200, client.send("GET", "")),
        "deep": _expect(name, 200, client.send("GET", f"?limit={PAGE}&cursor={deep_cursor}")),
    }
    for case, answer in answers.items():
        same = reference.setdefault(case, _comparable(answer))
        if _comparable(answer) != same:
            raise BenchmarkError(f"{name}: {case} answers {_difference(_comparable(answer), same)}")
    _check_writes(name, client)
    _check_refusals(name, client, tokens)


def _check_writes(name: str, client: Client) -> None:
    new = {"email": f"{name}.New@Example.com", "display_name": "New"}
    created = _expect(name, 201, client.send("POST", "", new))
    expected = {"email": new["email"].lower(), "display_name": "New", "is_active": True, "is_staff": False}
    _compare(name, "create", created, expected)
    changed = _expect(name, 200, client.send("PATCH", f"/{created['id']}", {"display_name": "Changed"}))
    _compare(name, "patch", changed, {**created, "display_name": "Changed", "updated_at": changed["updated_at"]})
    if not datetime.fromisoformat(changed["updated_at"]) > datetime.fromisoformat(created["updated_at"]):
        raise BenchmarkError(f"{name}: a patch leaves updated_at as it was")
    found = _expect(name, 200, client.send("GET", f"/{created['id']}"))
    _compare(name, "get after patch", found, changed)
    for case, body in {"duplicate": new, "not an address": {"email": "nobody"}, "no address": {}}.items():
        status, _ = client.send("POST", "", body)
        _require(name, case, status in {400, 409, 422}, status)


def _check_refusals(name: str, client: Client, tokens: Tokens) -> None:
    for case, token, expected in (
        ("no token", None, 401),
        ("forged token", tokens.forged, 401),
        ("not a token", "nonsense", 401),
        *((case, token, 401) for case, token in tokens.invalid.items()),
        ("token without scopes", tokens.without_scope, 403),
    ):
        stranger = Client(client.server, token)
        for method, path, body in (
            ("GET", "/2", None),
            ("GET", "?limit=1", None),
            ("POST", "", {"email": f"{name}.x@example.com"}),
            ("PATCH", "/2", {"display_name": "x"}),
        ):
            status, _ = stranger.send(method, path, body)
            _require(name, f"{method} {path} with {case}", status == expected, status)
    status, _ = client.send("GET", f"/{2**40}")
    _require(name, "get of nobody", status == http.HTTPStatus.NOT_FOUND, status)
    status, _ = client.send("GET", "?limit=100000")
    _require(name, "page beyond the limit", status in {400, 422}, status)


def _expect(name: str, expected: int, answer: tuple[int, Any]) -> Any:
    status, body = answer
    if status != expected:
        raise BenchmarkError(f"{name}: {status} and not {expected}: {body}")
    return body


def _require(name: str, case: str, is_met: bool, status: int) -> None:
    if not is_met:
        raise BenchmarkError(f"{name}: {case} answers {status}")


def _compare(name: str, case: str, answer: dict[str, Any], expected: dict[str, Any]) -> None:
    if set(answer) != FIELDS:
        raise BenchmarkError(f"{name}: {case} has the fields {sorted(answer)}")
    shown = _comparable({key: answer[key] for key in expected})
    if shown != _comparable(expected):
        raise BenchmarkError(f"{name}: {case} answers {answer} and not {expected}")


def _comparable(value: Any) -> Any:
    """What says the same in several ways, in one of them.

    Moments as moments: 'Z' and '+00:00' are one. Of a cursor, which each peer makes in its own way, only whether there
    is one.
    """
    if isinstance(value, dict):
        return {key: _member(key, part) for key, part in value.items()}
    return [_comparable(part) for part in value] if isinstance(value, list) else value


def _member(key: str, value: Any) -> Any:
    if key.endswith("_at"):
        return _moment(value)
    return value is not None if key == "next_cursor" else _comparable(value)


def _difference(answer: Any, expected: Any) -> str:
    """The first place where two answers differ."""
    if isinstance(answer, dict) and isinstance(expected, dict) and answer.keys() == expected.keys():
        key = next(key for key in answer if answer[key] != expected[key])
        return f"{key}: {_difference(answer[key], expected[key])}"
    if isinstance(answer, list) and isinstance(expected, list) and len(answer) == len(expected):
        return next(_difference(*pair) for pair in zip(answer, expected, strict=True) if pair[0] != pair[1])
    return f"{answer!r:.500} and not {expected!r:.500}"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise BenchmarkError(f"a moment without a time zone: {text}")
    return moment
