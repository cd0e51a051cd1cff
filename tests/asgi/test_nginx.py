"""Behind a real nginx, configured as docs/operations.md says: each client gets its own answers, and no 502."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.asgi.server import PATIENCE_S, ROOT, SERVE, Server, serving
from tests.asgi.sockets import request
from tests.fixtures import absent

NGINX_IDLE_S = 60
"""nginx's own ``keepalive_timeout`` in an ``upstream``, and that of AWS's load balancers."""
UVICORN_IDLE_S = 5
WEBSOCKET_LINES = """
        proxy_request_buffering off;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
"""


@pytest.fixture(scope="module", params=["served as make run does", "served by plain uvicorn"])
def behind(
    request: pytest.FixtureRequest, migrated: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server that nginx stands before."""
    options = () if "make run" in request.param else ("--http", "httptools")
    with serving(tmp_path_factory.mktemp("behind") / "log", *options, app="tests.asgi.apps:app", env={}) as running:
        yield running


def documented_block() -> str:
    """The configuration in docs/operations.md, without the TLS that a test has no certificate for."""
    (block,) = re.findall(r"```nginx\n(.+?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    return re.sub(r" +ssl_certificate.*\n", "", block)


@contextmanager
def nginx(folder: Path, server: Server, block: str) -> Iterator[int]:
    """Nginx with this configuration before the server; the port where it listens."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or ""
    if not program:
        absent("no nginx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    block = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("443 ssl", f"127.0.0.1:{port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}\n{block}\n}}\n"
    )
    process = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    try:
        until_listening(process, port, folder / "error.log")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_at and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_documented_command__and_make_run__are_one() -> None:
    """And its time for idle connections is longer than a proxy's."""
    (documented,) = re.findall(r"^uvicorn asgi:app (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)

    assert documented.startswith(" ".join(SERVE))
    assert int(SERVE[SERVE.index("--timeout-keep-alive") + 1]) > NGINX_IDLE_S


def test_documented_nginx__passes_on_who_asks_and_how(behind: Server, tmp_path: Path) -> None:
    with nginx(tmp_path, behind, documented_block()) as port, httpx2.Client(timeout=PATIENCE_S) as client:
        given = {"X-Forwarded-For": "192.0.2.9", "Upgrade": "h2c", "Connection": "Upgrade"}
        answer = client.post(f"http://127.0.0.1:{port}/api/test/echo", content=b"x" * 9000, headers=given)
        page = client.get(f"http://127.0.0.1:{port}/accounts/login/")

    assert answer.json()["length"] == 9000
    assert not {"upgrade", "connection"} & {*answer.json()["headers"]}
    assert page.status_code == 200
    assert '192.0.2.9:0 - "POST /api/test/echo ' in behind.log, "the client that nginx names, because it is trusted"


@pytest.mark.parametrize(
    ("lines", "status"), [({"X": "x" * 15_000}, 200), ({"X": "x" * 17_000}, 400)], ids=["long line", "too long"]
)
def test_documented_nginx__takes_lines_as_long_as_the_process(
    lines: dict[str, str], status: int, behind: Server, tmp_path: Path
) -> None:
    with nginx(tmp_path, behind, documented_block()) as port:
        answer = httpx2.get(f"http://127.0.0.1:{port}/healthz", headers=lines, timeout=PATIENCE_S)

    assert answer.status_code == status


def test_documented_nginx__after_a_pause__sends_a_post_on_the_same_connection(behind: Server, tmp_path: Path) -> None:
    """Longer than uvicorn keeps an idle one by itself: a POST that meets a closing connection is a 502."""
    with nginx(tmp_path, behind, documented_block()) as port, httpx2.Client(timeout=PATIENCE_S) as client:
        address = f"http://127.0.0.1:{port}/api/test/echo?pause"
        before = [client.post(address, content=b"1").status_code for _ in range(2)]
        peers = established(behind)
        time.sleep(UVICORN_IDLE_S + 0.5)

        assert established(behind) >= peers
        after = client.post(address, content=b"1").status_code

    assert [*before, after] == [200] * 3


def established(server: Server) -> set[str]:
    """The other ends of the server's connections."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("no /proc here")
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[2] for row in rows if row[1].endswith(f":{server.port:04X}") and row[3] == "01"}


@pytest.mark.attack
@pytest.mark.parametrize("offer", ["h2c", "foo", "TLS/1.0"])
@pytest.mark.parametrize("lead", [0, 100_000], ids=["small", "in many segments"])
def test_websocket_lines_and_upstream_keep_alive__each_client_gets_its_own_answer(
    lead: int, offer: str, behind: Server, tmp_path: Path
) -> None:
    """A request in a body, sent after its head, ran as the next one, and its answer came to the next client."""
    block = documented_block().replace("keepalive 32;", "keepalive 1;")
    block = re.sub(r' +proxy_set_header Connection "";.*\n', WEBSOCKET_LINES, block)
    smuggled = b"\r\n" * (lead // 2) + request("/api/test/nothing?smuggled")
    lines = (f"Content-Length: {len(smuggled)}", "Connection: Upgrade", f"Upgrade: {offer}")
    head = request("/api/test/echo", *lines, method="POST")
    with nginx(tmp_path, behind, block) as port, httpx2.Client(timeout=PATIENCE_S) as victim:
        for number in range(1, 6):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as attacker:
                attacker.sendall(head)
                time.sleep(0.05)
                attacker.sendall(smuggled)
                attacker.recv(65536)
            answers = [victim.post(f"http://127.0.0.1:{port}/api/test/echo", content=b"x" * number) for _ in range(3)]

            assert [answer.status_code for answer in answers] == [200] * 3
            assert [answer.json()["length"] for answer in answers] == [number] * 3

    assert "smuggled" not in behind.log
