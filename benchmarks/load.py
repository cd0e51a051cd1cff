"""The load generator: one thread, one epoll, raw sockets. It reads a plan as JSON from stdin and prints what it saw.

It is a process of its own, so that its work is not the server's, and small, so that it is not the limit: about 30
microseconds of CPU a request. It reads the server's CPU time itself, at the very edges of the measured window.
"""

import contextlib
import heapq
import json
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

RECEIVE_BYTES = 1 << 18
DRAIN_S = 3.0
CPUCLOCK_SCHED = 2
"""Linux's number of the clock of all CPU time, in the three low bits of a clock's id."""


@dataclass(frozen=True)
class Request:
    """One request. ``{n}`` in its body becomes a number that no other request of the run has."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    expect: int = 200


@dataclass(frozen=True)
class Plan:
    """What to send, to whom, for how long."""

    port: int
    requests: list[Request]
    connections: int = 32
    warmup_s: float = 0.3
    seconds: float = 1.5
    rate: float | None = None
    """Requests a second, sent on time whatever the server does; None sends the next as soon as one is answered."""
    server_pid: int = 0
    """The root of the process tree whose CPU time is the server's."""
    database_pid: int = 0
    """The same of the database server's."""
    tag: str = ""
    """Begins each number, so that two runs never send the same."""


@dataclass(frozen=True)
class Outcome:
    """What came back within the window."""

    requests: int
    errors: int
    seconds: float
    server_cpu_s: float
    database_cpu_s: float
    load_cpu_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    first_error: str = ""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """The server's CPU time for one request, in microseconds."""
        return self.server_cpu_s / max(self.requests, 1) * 1e6

    @property
    def database_cpu_us(self) -> float:
        """The database's CPU time for one request, in microseconds."""
        return self.database_cpu_s / max(self.requests, 1) * 1e6

    def joined(self, other: "Outcome") -> "Outcome":
        """Both windows as one; of their latencies the mean."""
        sums = ("requests", "errors", "seconds", "server_cpu_s", "database_cpu_s", "load_cpu_s")
        means = ("p50_ms", "p99_ms")
        return Outcome(
            **{name: getattr(self, name) + getattr(other, name) for name in sums},
            **{name: (getattr(self, name) + getattr(other, name)) / 2 for name in means},
            max_ms=max(self.max_ms, other.max_ms),
            first_error=self.first_error or other.first_error,
        )


def process_tree(root: int) -> list[int]:
    """The pids of a process and of everything below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    tree = [root]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """The CPU time that each of these processes has used, threads that have ended included.

    By the processes' own clocks, which ``clock_getcpuclockid`` (POSIX) finds; ``/proc`` counts in hundredths.
    """
    used = dict[int, float]()
    for pid in pids:
        with contextlib.suppress(OSError):  # It has ended.
            used[pid] = time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
    return used


def spent(before: dict[int, float]) -> float:
    """The CPU time that the processes which are still there have used since ``before``."""
    return sum(now - before[pid] for pid, now in cpu_seconds(list(before)).items())


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


class Sender:
    """Makes the bytes of one request after the other, in a cycle."""

    def __init__(self, plan: Plan) -> None:
        self._makers = [self._maker(request, plan) for request in plan.requests]
        self._position = 0

    def next(self) -> tuple[bytes, bytes]:
        """The bytes to send, and the status expected."""
        make, expected = self._makers[self._position % len(self._makers)]
        self._position += 1
        return make(), expected

    def _maker(self, request: Request, plan: Plan) -> tuple[Callable[[], bytes], bytes]:
        expected = b"%d" % request.expect
        if request.body is not None and "{n}" in request.body:
            template = request.body
            return lambda: render(request, plan.port, template.replace("{n}", f"{plan.tag}{self._position}")), expected
        fixed = render(request, plan.port, request.body)
        return lambda: fixed, expected


def render(request: Request, port: int, body: str | None) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + (body or "")).encode()


class Connection:
    """A keep-alive connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.since = 0.0
        self.expected = b""
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._length = -1

    def send(self, data: bytes, expected: bytes, since: float) -> None:
        self.expected = expected
        self.since = since
        self._received = b""
        self._length = -1
        self.socket.sendall(data)

    def reopen(self) -> None:
        self.socket.close()
        self._open()

    def receive(self) -> bytes | None:
        """The whole response once it is there, or None. Raises ConnectionError when the server hangs up."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the server hung up")
        self._received = received = self._received + data if self._received else data
        if self._length < 0:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._length = self._total_length(received[:end].lower(), end + 4)
        if self._length:
            return received if len(received) >= self._length else None
        return received if received.endswith(b"0\r\n\r\n") else None

    @staticmethod
    def _total_length(head: bytes, body_start: int) -> int:
        """The response's length in bytes; 0 means in chunks."""
        position = head.find(b"\r\ncontent-length:")
        if position < 0:
            return 0 if b"chunked" in head else body_start
        end = head.find(b"\r\n", position + 17)
        return body_start + int(head[position + 17 : end if end > 0 else None])

    @property
    def closes(self) -> bool:
        return b"connection: close" in self._received[:2048].lower()


class Window:
    """Counts what is answered between its opening and its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._server: list[int] | None = None
        self.opens = time.perf_counter() + plan.warmup_s
        self.ends = self.opens + plan.seconds
        self.latencies: list[float] = []
        self.errors = 0
        self.first_error = ""
        self._is_open = False

    def open_if_due(self, now: float) -> None:
        if self._is_open:
            return
        if self._server is None and now >= self.opens - self._plan.warmup_s / 2:
            # In the warm-up, so that it delays nothing that counts, and late in it, when all processes are there.
            self._server = process_tree(self._plan.server_pid) if self._plan.server_pid else []
            self._database = process_tree(self._plan.database_pid) if self._plan.database_pid else []
        if self._server is not None and now >= self.opens:
            self._is_open = True
            self.latencies.clear()
            self.opens, self._own_cpu = now, time.process_time()
            self._server_cpu, self._database_cpu = cpu_seconds(self._server), cpu_seconds(self._database)

    def note(self, latency_s: float, response: bytes, expected: bytes) -> None:
        if response[9:12] == expected:
            self.latencies.append(latency_s)
        else:
            self.fail(response[:500].decode("latin-1"))

    def fail(self, reason: str) -> None:
        """An error counts whenever it happens: a warm-up has none either."""
        self.errors += 1
        self.first_error = self.first_error or reason

    def outcome(self) -> Outcome:
        ended = time.perf_counter()
        server_cpu, database_cpu = spent(self._server_cpu), spent(self._database_cpu)
        own_cpu = time.process_time() - self._own_cpu
        latencies = sorted(self.latencies) or [0.0]
        return Outcome(
            requests=len(self.latencies),
            errors=self.errors,
            seconds=ended - self.opens,
            server_cpu_s=server_cpu,
            database_cpu_s=database_cpu,
            load_cpu_s=own_cpu,
            p50_ms=latencies[len(latencies) // 2] * 1e3,
            p99_ms=latencies[min(len(latencies) * 99 // 100, len(latencies) - 1)] * 1e3,
            max_ms=latencies[-1] * 1e3,
            first_error=self.first_error,
        )


class Run:
    """Sends a plan's requests over its connections."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sender = Sender(plan)
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        for _ in range(plan.connections):
            self._watch(Connection(plan.port))
        self._pending = 0
        self._window = Window(plan)

    def as_fast_as_answered(self) -> Outcome:
        """A closed loop: each connection sends its next request as soon as it has its answer."""
        window = self._window
        for connection in list(self._connections.values()):
            self._send(connection, time.perf_counter())
        while (now := time.perf_counter()) < window.ends:
            window.open_if_due(now)
            for connection in self._answered(window.ends - now):
                self._send(connection, time.perf_counter())
        return self._finish()

    def at_rate(self, rate: float) -> Outcome:
        """An open loop: latency counts from when a request was due, so that a stalled server cannot hide its queue."""
        window, idle = self._window, list(self._connections.values())
        due = [time.perf_counter()]
        while (now := time.perf_counter()) < window.ends:
            window.open_if_due(now)
            while due[0] <= now and idle:
                since = heapq.heappop(due)
                heapq.heappush(due, since + 1 / rate)
                self._send(idle.pop(), since)
            self._wait(max(due[0] - time.perf_counter(), 0) if idle else window.ends - now)
            idle += self._answered(0)
        return self._finish()

    def _wait(self, timeout_s: float) -> None:
        """Wait for an answer, but not a millisecond too long, as epoll would, whose time-outs are whole ones."""
        select.select([self._poll], [], [], max(timeout_s, 0))

    def _finish(self) -> Outcome:
        """The outcome; then wait for what is still under way, so that no server sees its clients vanish."""
        outcome = self._window.outcome()
        deadline = time.perf_counter() + DRAIN_S
        while self._pending and (left := deadline - time.perf_counter()) > 0:
            for _connection in self._answered(left):
                pass
        return outcome

    def _answered(self, timeout_s: float) -> Iterator[Connection]:
        for number, _event in self._poll.poll(max(timeout_s, 0)):
            connection = self._connections[number]
            try:
                response = connection.receive()
            except OSError as error:
                self._window.fail(str(error))
                self._reopen(connection)
                self._pending -= 1
                yield connection
                continue
            if response is not None:
                self._pending -= 1
                self._window.note(time.perf_counter() - connection.since, response, connection.expected)
                if connection.closes:
                    self._reopen(connection)
                yield connection

    def _send(self, connection: Connection, since: float) -> None:
        data, expected = self._sender.next()
        self._pending += 1
        try:
            connection.send(data, expected, since)
        except OSError:  # The server closed an idle connection: as any client would, open another.
            self._reopen(connection)
            connection.send(data, expected, since)

    def _watch(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        self._connections[number] = connection
        self._poll.register(number, select.EPOLLIN)

    def _reopen(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.reopen()
        self._watch(connection)


def main() -> None:
    """Read a plan, run it, print its outcome."""
    document = json.load(sys.stdin)
    requests = [Request(**request) for request in document.pop("requests")]
    plan = Plan(requests=requests, **document)
    run = Run(plan)
    outcome = run.as_fast_as_answered() if plan.rate is None else run.at_rate(plan.rate)
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
