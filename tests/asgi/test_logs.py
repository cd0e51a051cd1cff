"""Log lines, whatever a caller sends: no line of a caller's own, nothing that a terminal obeys, no secret."""

import logging
import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from project.accounts.models import User
from project.config import config
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.fixtures import IssueToken

pytestmark = pytest.mark.attack

BEGINS_RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \[[^\]]*\] \S+: ")
FORGED = "2026-01-01 00:00:00,000 ERROR [-] root: forged"
FORGED_IN_PATH = FORGED.replace(" ", "%20")
SECRET = "OF-NOBODY-ELSE"


def logged(message: str, *arguments: object, error: BaseException | None = None) -> str:
    """What the process writes for a record."""
    (handler,) = (handler for handler in logging.getLogger().handlers if handler.filters)
    record = logging.LogRecord("a.logger", logging.WARNING, "file.py", 1, message, arguments, None)
    if error is not None:
        record.exc_info = (type(error), error, error.__traceback__)
    handler.filter(record)
    return handler.format(record)


def assert_is_one_record(text: str) -> None:
    first, *others = text.split("\n")
    assert BEGINS_RECORD.match(first)
    for line in others:
        assert line.startswith("    "), line
    for line in (first, *others):
        assert line.isprintable(), ascii(line)


ODD = [
    "\n", "\r", "\r\n", "\x00", "\x07", "\x08", "\x0b", "\x0c", "\x1b[31m", "\x1b]0;title\x07", "\x1c", "\x1d", "\x1e",
    "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\ufeff", "\ud800",
    "\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_argument__any_character_that_does_not_print__is_escaped_on_one_line(odd: str) -> None:
    line = logged("%s %s: no answer", "GET", f"/a{odd}{FORGED}")

    assert_is_one_record(line)
    assert "\n" not in line
    assert f"GET /a{odd.encode('unicode_escape').decode()}2026" in line


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_message_and_exception__any_character__begin_no_record(odd: str) -> None:
    with pytest.raises(ValueError, match="forged") as raised:
        raise ValueError(f"a{odd}{FORGED}\nb")
    record = logged(f"a{odd}{FORGED}", error=raised.value)

    assert_is_one_record(record)
    assert "    Traceback (most recent call last):\n" in record, "it can be read"
    assert "\n    ValueError: a" in record


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text("ab=&?%2 {}" + "".join(ODD), max_size=12), min_size=2, max_size=2))
def test_record__any_text__is_one_record(texts: list[str]) -> None:
    assert_is_one_record(logged("%s: %r", *texts))
    assert_is_one_record(logged(texts[0].replace("%", "%%"), error=ValueError(texts[1])))


@pytest.mark.parametrize("text", ["x" * 5_000_000, "%61=a&" * 1_000_000, "\n" * 5_000_000, "code=" * 1_000_000])
def test_line__of_megabytes__is_cut_before_work_is_done_on_it(text: str) -> None:
    record = logged("GET %s", text)

    assert_is_one_record(record)
    assert len(record) < 50_000
    assert f" ({len(text) + 4} characters)" in record


NAMES = [
    "id_token_hint", "id_token", "code", "user_code", "access_token", "refresh_token", "device_code", "client_secret",
    "password", "token", "state", "nonce", "code_verifier", "client_assertion", "logout_token", "subject_token",
    "registration_access_token", "csrfmiddlewaretoken", "new_password1", "api_key", "ACCESS_TOKEN", "Code",
    "acc%65ss_token", "%63%6F%64%65", "c%6fde", "access%5Ftoken", "password[]", "%2563ode",
]  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        "GET /o/authorize/?{name}={secret} HTTP/1.1",
        "GET /a?b=c&{name}={secret}&d=e HTTP/1.1",
        "/a?b=c;{name}={secret}",
        "{name}={secret}",
        "Bad Request: /a?{name}={secret}",
        "/accounts/login/?next=/device/?{name}={secret}&x=1",
        "/accounts/login/?next=%2Fo%2Fauthorize%2F%3Fa%3Db%26{name}%3D{secret}&x=1",
        "/a?next=%2Fo%3Fnext%3D%252Fo%253F{name}%253D{secret}",
        "(from https://app.example/cb#{name}={secret})",
        "/a?{name}={secret}%26{secret}%3D{secret}",
        "/a?{name}=x\"{secret}'{secret};{secret}?{secret}={secret}#{secret}",
    ],
)  # fmt: skip
def test_secret_parameter__in_any_spelling_and_place__is_masked(form: str) -> None:
    for name in NAMES:
        text = form.format(name=name, secret=SECRET)
        by_argument, by_message = logged("%s", text), logged(text.replace("%", "%%") + "%s", "")
        for line in (by_argument, by_message, logged("x", error=ValueError(text))):
            assert SECRET not in line
            assert "***" in line


@pytest.mark.parametrize(
    "text", ["/api/v1/users?email=ada@example.com&limit=5", "status_code=404", "error_code=5", "/a?decode=1", "a = b"]
)
def test_other_parameter__stays_as_it_is(text: str) -> None:
    assert logged("%s", text).endswith(f": {text}")


# A real process


@pytest.fixture(scope="module")
def server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "DATABASE_URL": config.database, "REQUEST_TIMEOUT_S": "1", "LOG_LEVEL": "INFO",
        "TRUSTED_ISSUERS": '[{"issuer": "http://127.0.0.1:9", "audiences": ["a"]}]',
    }  # fmt: skip
    with serving(tmp_path_factory.mktemp("server") / "log", env=env) as running:
        yield running


def send(server: Server, target: str, *lines: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """A request byte for byte, and what is answered."""
    head = "\r\n".join([f"{method} {target} {version}", "Host: 127.0.0.1", "Connection: close", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head.encode("latin-1"))
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def lines_of_requests(server: Server) -> list[str]:
    """What was logged since the start, once the last request is."""
    send(server, "/healthz?the=last-one")
    server.until_logged("the=last-one")
    return server.log_file.read_bytes().decode().partition("Application startup complete.\n")[2].split("\n")[1:-1]


def assert_nothing_was_forged(server: Server) -> None:
    for line in lines_of_requests(server):
        assert BEGINS_RECORD.match(line) or line.startswith("    "), line
        assert not line.startswith(FORGED), line
        assert line.isprintable(), ascii(line)
        assert SECRET not in line, line


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/admin/login/nowhere", "/static/x"])
def test_process__control_characters_in_a_path__forge_no_line(path: str, server: Server) -> None:
    for odd in ("%0A", "%0D%0A", "%1B[31m", "%E2%80%A8", "%C2%85", "%E2%80%AE", "%00", "%ED%A0%80", "%FF"):
        send(server, f"{path}{odd}{FORGED_IN_PATH}")

    assert_nothing_was_forged(server)


def test_process__time_out_of_a_path_with_a_line_feed__is_one_line(
    server: Server, alice: User, issue_token: IssueToken
) -> None:
    token = f"Authorization: Bearer {issue_token(alice, 'users:write')}"
    target = f"/api/v1/users/1%0A{FORGED_IN_PATH}"

    answer = send(server, target, token, "Content-Type: application/json", "Content-Length: 5", method="PATCH")

    assert answer.startswith(b"HTTP/1.1 504")
    server.until_logged(
        r"PATCH /api/v1/users/1\\n2026-01-01 00:00:00,000 ERROR \[-\] root: forged: no answer within 1 s"
    )
    assert_nothing_was_forged(server)


@pytest.mark.parametrize(
    "target",
    [
        f"/o/authorize/?client_id=a&response_type=code&state={SECRET}&id_token_hint={SECRET}&code={SECRET}",
        f"/o/authorize/?ACCESS_TOKEN={SECRET}&acc%65ss_token={SECRET}&redirect_uri=https://evil%0A.example",
        f"/o/logout/?id_token_hint={SECRET}",
        f"/device/?user_code={SECRET}",
        f"/accounts/login/?next=/device/%3Fuser_code%3D{SECRET}",
        f"/o/token/?client_secret={SECRET}&password={SECRET}&refresh_token={SECRET}",
        f"/api/v1/users?access_token={SECRET}&token={SECRET}",
        f"/nowhere?device_code={SECRET}",
        f"/healthz?code={SECRET}",
    ],
)
def test_process__secrets_in_a_query__are_in_no_line(target: str, server: Server) -> None:
    send(server, target)
    send(server, target, method="POST")

    assert_nothing_was_forged(server)


@pytest.mark.parametrize(
    "header",
    [
        f"Referer: https://evil.example/?id_token_hint={SECRET}",
        f"Referer: https://evil.example/\x85{FORGED}",
        f"Origin: https://evil.example/?code={SECRET}",
        f"Origin: https://evil.example\x9b31m{FORGED}",
        f"Host: evil.example\x85{FORGED}",
        f"User-Agent: \x9b31m{FORGED} code={SECRET}",
        f"X-Request-ID: {FORGED}",
        f"X-Forwarded-For: \x85{FORGED}",
        f"Cookie: csrftoken={SECRET}; sessionid=\x85",
        f"Authorization: Bearer {SECRET}",
        "Content-Type: multipart/form-data; boundary=\x85",
        f"Content-Type: application/x-www-form-urlencoded; charset={FORGED}",
    ],
    ids=ascii,
)
def test_process__odd_headers__forge_no_line(header: str, server: Server) -> None:
    for path in ("/admin/login/", "/o/token/", "/api/v1/users"):
        send(server, path, header, "X-Forwarded-Proto: https", "Content-Length: 0", method="POST")

    assert_nothing_was_forged(server)


@pytest.mark.parametrize("method", ["FOO", "GET\x85", f"GET\n{FORGED}\n", "CONNECT", "PROPFIND"])
def test_process__odd_methods__forge_no_line(method: str, server: Server) -> None:
    send(server, "/admin/", method=method)

    assert_nothing_was_forged(server)
