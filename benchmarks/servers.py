"""The peers as processes: how each is started, pinned, watched and stopped."""

import contextlib
import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from benchmarks.load import process_tree
from benchmarks.world import PEERS_BIN, PRODUCT_BIN, ROOT, BenchmarkError, World

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
DJANGO_SETTINGS = "benchmarks.peers.django_site.settings"


CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = {CORES[0]}
LOAD_CORES = set(CORES[1:])
"""The load generator's and the database's."""


@dataclass(frozen=True)
class Peer:
    """How to start a peer, and where its API is."""

    name: str
    command: tuple[str, ...]
    """With ``{port}`` where the port goes."""
    title: str
    users: str = "/api/v1/users"
    ping: str = "/ping"
    ready: str = "/ping"
    signs_cursors: bool = False
    environment: dict[str, str] = field(default_factory=dict)


PATIENT = ("--timeout-keep-alive", "120")
"""uvicorn closes a connection that is idle for 5 s, which one of the load generator's may be at a low rate."""


SERVE = tuple(shlex.split(re.findall(r"^SERVE := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]))
"""How ``make run`` serves the product."""


def _uvicorn(app: str, *options: str, bin_dir: Path = PEERS_BIN) -> tuple[str, ...]:
    """No peer logs its requests; the level is said too, because Tandem's own logging brings the access log back."""
    quiet = ("--no-access-log", "--log-level", "warning")
    return (str(bin_dir / "uvicorn"), app, "--host", "127.0.0.1", "--port", "{port}", *options, *quiet, *PATIENT)


_DJANGO = {"DJANGO_SETTINGS_MODULE": DJANGO_SETTINGS}
_DJANGO_ASGI = _uvicorn("benchmarks.peers.django_site.asgi:application", "--lifespan", "off")

PEERS = (
    Peer("raw", _uvicorn("benchmarks.peers.raw:app"), "Starlette + asyncpg by hand"),
    Peer("raw_handed", _uvicorn("benchmarks.peers.raw_handed:app"), "the same without its pool"),
    Peer(
        "tandem",
        _uvicorn("asgi:app", *SERVE, bin_dir=PRODUCT_BIN),
        "Tandem",
        ping="/healthz",
        ready="/healthz",
        signs_cursors=True,
    ),
    Peer(
        "tandem_alone",
        _uvicorn("benchmarks.peers.tandem_alone:app", *SERVE, bin_dir=PRODUCT_BIN),
        "Tandem's API alone",
        users="/v1/users",
        signs_cursors=True,
    ),
    Peer(
        "tandem_mounted",
        _uvicorn("benchmarks.peers.tandem_mounted:app", *SERVE, bin_dir=PRODUCT_BIN),
        "Tandem's API, mounted",
        signs_cursors=True,
    ),
    Peer("fastapi", _uvicorn("benchmarks.peers.fastapi:app"), "FastAPI + SQLAlchemy"),
    Peer("litestar", _uvicorn("benchmarks.peers.litestar:app"), "Litestar + SQLAlchemy"),
    Peer("ninja", _DJANGO_ASGI, "Django Ninja, async", environment=_DJANGO),
    Peer("drf", _DJANGO_ASGI, "DRF on ASGI", environment=_DJANGO),
    Peer(
        "drf_threads",
        (
            str(PEERS_BIN / "gunicorn"),
            "benchmarks.peers.django_site.wsgi:application",
            *("--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1", "--threads", "4"),
        ),
        "DRF on gunicorn threads",
        environment=_DJANGO,
    ),
    Peer(
        "bolt",
        (
            *(str(PEERS_BIN / "python"), "-m", "django", "runbolt"),
            *("--host", "127.0.0.1", "--port", "{port}", "--processes", "1"),
        ),
        "django-bolt (Rust server)",
        environment=_DJANGO,
    ),
)
DJANGO = Peer("django", _DJANGO_ASGI, "Django ASGI + admin", ready="/admin/login/", environment=_DJANGO)
"""Bare Django with the same admin: for the admin case and the cold start."""
LIBRARIES = replace(
    DJANGO,
    command=_uvicorn("benchmarks.peers.libraries:application", "--lifespan", "off"),
    title="Django ASGI + admin, and the product's libraries imported",
)
"""For the cold start: what is left of the product's without all that it does itself. It has Django's role."""


@dataclass(frozen=True)
class Server:
    """A peer that runs."""

    peer: Peer
    port: int
    pid: int

    def resident_mb(self) -> float:
        """Resident memory of the process and its children, in 10^6 bytes."""
        pages = 0
        for pid in process_tree(self.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * PAGE_BYTES / 1e6

    def connections(self, world: World) -> int:
        """Database connections that it holds now."""
        with psycopg.connect(world.server_url) as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [self.peer.name])
            return int(row.fetchall()[0][0])

    def get(self, path: str) -> int:
        """The status of a GET without a token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()


@contextlib.contextmanager
def serving(
    peer: Peer, world: World, database: str, *, options: tuple[str, ...] = (), cores: set[int] = SERVER_CORE
) -> Iterator[Server]:
    """Start a peer on its core, wait until it answers, and stop it at the end.

    Raises:
        BenchmarkError: it did not start; the message has the end of its output.
    """
    port = _free_port()
    log = world.var_dir / f"{peer.name}.log"
    with log.open("ab") as output, pinned_to(cores):
        process = subprocess.Popen(
            [part.format(port=port) for part in (*peer.command, *options)],
            cwd=ROOT,
            env=world.environment(database, peer.name) | {"PYTHONUNBUFFERED": "1"} | peer.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(peer, port, process.pid)
    try:
        _wait_until_ready(server, process, log)
        yield server
    finally:
        _stop(process)


def _wait_until_ready(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    status: object = "no answer"
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            status = server.get(server.peer.ready)
            if status == http.HTTPStatus.OK:
                return
        time.sleep(0.005)
    tail = log.read_text(errors="replace")[-3000:]
    raise BenchmarkError(f"{server.peer.name} does not serve {server.peer.ready} ({status}):\n{tail}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Its own session: the server and its workers, nothing else.
        process.wait()


@contextlib.contextmanager
def pinned_to(cores: set[int]) -> Iterator[None]:
    """A child inherits where its parent may run."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
