"""A real uvicorn in a process of its own, for what only a real one shows: sockets, signals, exit codes."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx2

ROOT = Path(__file__).resolve().parents[2]
SERVE = shlex.split(re.findall(r"^SERVE := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0])
"""The options of ``make run``."""
PATIENCE_S = 120.0
"""Generous: a loaded machine must not fail a test, and only a test that fails waits so long."""


class Server:
    """``uvicorn APP`` as ``make run`` serves it, but on a free port, its output in a file. Later options prevail."""

    def __init__(
        self, log: Path, *options: str, env: Mapping[str, str], app: str = "asgi:app", lifespan: str = "on"
    ) -> None:
        self.log_file = log
        command = [sys.executable, "-m", "uvicorn", app, *SERVE, "--lifespan", lifespan, "--port", "0", *options]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def until_logged(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until the output has ``pattern`` ``count`` times; the last of them."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if len(found := list(re.finditer(pattern, self.log))) >= count:
                return found[count - 1]
            time.sleep(0.02)
        raise AssertionError(f"not logged within {PATIENCE_S} s: {pattern}\n{self.log}")

    def until_started(self, workers: int = 1) -> Self:
        self.until_logged("Application startup complete", workers)
        self.port = int(self.until_logged(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1])
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=PATIENCE_S)

    def terminate(self) -> int:
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.exit_code()

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(
    log: Path, *options: str, workers: int = 1, app: str = "asgi:app", env: Mapping[str, str]
) -> Iterator[Server]:
    """A server that has started, and is gone afterwards."""
    server = Server(log, *options, app=app, env=env)
    try:
        yield server.until_started(workers)
    finally:
        server.process.terminate()
        try:
            server.exit_code()
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.exit_code()
