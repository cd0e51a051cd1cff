"""The one lifespan: what it opens, when it fails, how it ends. Every story here is a real uvicorn process."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from tests.asgi.server import PATIENCE_S, ROOT, Server, serving

RESOURCES = ["Django's database", "the database", "the HTTP client", "the revocations", "the authenticator"]
"""In the order in which they open."""


def events(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith(("opened ", "closed "))]


def test_lifespan__requests_on_both_mounts__opens_once_and_closes_once_in_reverse(
    database: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", app="tests.asgi.apps:app", env={"DATABASE_URL": database}) as server:
        with server.client() as client:
            assert client.get("/admin/login/").status_code == 200
            assert client.get("/api/v1/openapi.json").status_code == 200
            in_api, in_django = client.get("/api/test/state").json(), client.get("/test/state").text
        server.terminate()

    assert in_api == in_django, "both halves see the very same resources"
    assert events(server.log) == [
        *(f"opened {name}" for name in RESOURCES),
        *(f"closed {name}" for name in reversed(RESOURCES)),
    ]
    assert server.process.returncode == -15, "ended by the signal, after an orderly shutdown"


@pytest.mark.parametrize("broken", RESOURCES)
def test_start__a_resource_fails__exits_with_one_line_and_closes_what_was_open(
    broken: str, database: str, tmp_path: Path
) -> None:
    server = Server(
        tmp_path / "log",
        app="tests.asgi.apps:app",
        env={"DATABASE_URL": database, "RESOURCE_FAULT": f"{broken}: fails"},
    )

    assert server.exit_code() == 3
    before = RESOURCES[: RESOURCES.index(broken)]
    assert events(server.log) == [
        *(f"opened {name}" for name in before),
        *(f"closed {name}" for name in reversed(before)),
    ]
    assert f"tandem: cannot open {broken}: OSError: injected fault" in server.log
    assert "Traceback" not in server.log


def test_start__a_resource_hangs__exits_at_the_bound_and_closes_what_was_open(database: str, tmp_path: Path) -> None:
    *before, last = RESOURCES
    server = Server(
        tmp_path / "log",
        app="tests.asgi.apps:app",
        env={"DATABASE_URL": database, "RESOURCE_FAULT": f"{last}: hangs", "STARTUP_TIMEOUT_S": "12"},
    )

    assert server.exit_code() == 3
    assert f"tandem: cannot open {last}: not open within 12 s (STARTUP_TIMEOUT_S)" in server.log
    assert events(server.log) == [
        *(f"opened {name}" for name in before),
        *(f"closed {name}" for name in reversed(before)),
    ]


@pytest.mark.parametrize("broken", RESOURCES)
def test_stop__a_resource_hangs__closes_the_others_and_ends_at_the_bound(
    broken: str, database: str, tmp_path: Path
) -> None:
    with serving(
        tmp_path / "log",
        app="tests.asgi.apps:app",
        env={"DATABASE_URL": database, "RESOURCE_FAULT": f"{broken}: hangs on closing", "SHUTDOWN_TIMEOUT_S": "0.5"},
    ) as server:
        server.terminate()

    assert f"cannot close {broken}" in server.log
    others = [name for name in reversed(RESOURCES) if name != broken]
    assert [line for line in events(server.log) if "closed" in line] == [f"closed {name}" for name in others]


def test_stop__in_mid_request__finishes_the_request_then_closes(database: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log", app="tests.asgi.apps:app", env={"DATABASE_URL": database}) as server:
        answers: list[httpx2.Response] = []
        request = threading.Thread(
            target=lambda: answers.append(httpx2.get(f"{server.url}/api/test/sleep?seconds=1", timeout=PATIENCE_S))
        )
        request.start()
        server.until_logged("request began")
        server.terminate()
        request.join()

    assert [answer.status_code for answer in answers] == [200]
    assert server.log.index("/api/test/sleep") < server.log.index("closed the HTTP client")


@pytest.mark.parametrize(("options", "lines"), [((), 1), (("--no-access-log",), 0)])
def test_access_log__is_written_with_the_request_id_unless_switched_off(
    options: tuple[str, ...], lines: int, database: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", *options, env={"DATABASE_URL": database}) as server, server.client() as client:
        client.get("/healthz", headers={"x-request-id": "the-only-request"})
        server.terminate()

    assert server.log.count("[the-only-request] uvicorn.access: 127.0.0.1:") == lines
    assert server.log.count("/healthz") == lines


def test_start__without_a_lifespan__every_request_names_the_cure(database: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "log", lifespan="off", env={"DATABASE_URL": database})
    try:
        server.port = int(server.until_logged(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1])
        in_api, in_django = httpx2.get(f"{server.url}/api/v1/users"), httpx2.get(f"{server.url}/admin/")
    finally:
        server.terminate()

    assert in_api.status_code == in_django.status_code == 500
    assert in_api.headers["content-type"] == "application/problem+json"
    assert in_api.json()["request_id"] == in_api.headers["x-request-id"]
    assert server.log.count("serve with 'uvicorn asgi:app --lifespan on'") == 2


def test_start__two_workers_on_an_empty_database__migrate_once_and_announce_once(
    fresh_database: str, tmp_path: Path
) -> None:
    with (
        serving(
            tmp_path / "log",
            "--workers",
            "2",
            workers=2,
            env={"DATABASE_URL": fresh_database, "VAR_DIR": str(tmp_path / "var")},
        ) as server,
        server.client() as client,
    ):
        answers = [client.get(path).status_code for path in ("/readyz", "/admin/login/", "/healthz") for _ in range(4)]

    assert answers == [200] * 12
    assert server.log.count("API docs  http://") == 1
    assert server.log.count("Password  ") == 1
    assert server.log.count("Application shutdown complete") == 2


def test_start__again_in_development__keeps_the_administrator(fresh_database: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": fresh_database, "VAR_DIR": str(tmp_path / "var"), "PORT": "8123"}
    with serving(tmp_path / "first", env=settings) as first:
        pass
    with serving(tmp_path / "second", env=settings) as second:
        pass

    assert "http://127.0.0.1:8123/admin/" in first.log
    assert "Login     admin@example.com" in first.log
    assert "Password  " in first.log
    assert "http://127.0.0.1:8123/admin/" in second.log
    assert "Password  " not in second.log


def test_start__no_database__exits_with_one_line(tmp_path: Path) -> None:
    server = Server(
        tmp_path / "log", env={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "DATABASE_WAIT_S": "1"}
    )

    assert server.exit_code() == 3
    assert "tandem: cannot open Django's database" in server.log
    assert "Traceback" not in server.log


PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "a-secret-of-production-that-is-long-enough-to-be-taken-for-one",
    "ALLOWED_HOSTS": "127.0.0.1",
    "BASE_URL": "http://127.0.0.1",
}


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"SECRET_KEY": ""}, "set SECRET_KEY to a random secret"),
        ({"SECRET_KEY": "short"}, "set SECRET_KEY to a random secret"),
        ({"DATABASE_URL": ""}, "set DATABASE_URL"),
        ({"ALLOWED_HOSTS": ""}, "set ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ","}, "set ALLOWED_HOSTS"),
        ({"BASE_URL": ""}, "set BASE_URL"),
    ],
)
def test_start__unsafe_in_production__exits_with_one_line(
    settings: dict[str, str], cure: str, database: str, tmp_path: Path
) -> None:
    server = Server(tmp_path / "log", env={**PRODUCTION, "DATABASE_URL": database, **settings})

    assert server.exit_code() == 1
    assert len(server.log.splitlines()) == 1
    assert server.log.startswith("tandem: ENVIRONMENT=production needs more: ")
    assert cure in server.log


NOT_IMPORTED = {
    "httpcore2": "calls to other services",
    "project.identity.urls": "signing in",
    "requests": "what a library for signing in brings along",
    "redis": "counts that processes share",
    "sqlite3": "another database",
    "project.development": "a developer's start",
    "project.schema.checks": "manage.py",
}
"""What a process that serves can do without, or does not need yet, and what it is for."""


def test_start__in_production__imports_only_what_is_served() -> None:
    program = f"import asgi, project.urls, sys; print(*{set(NOT_IMPORTED)} & sys.modules.keys())"
    env = {
        **PRODUCTION,
        "DATABASE_URL": "postgresql://tandem@127.0.0.1/tandem",
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    command = [sys.executable, "-c", program]

    started = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=True, capture_output=True, text=True)

    assert not started.stdout.split()


def manage(*arguments: str, env: Mapping[str, str]) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=True, capture_output=True)


def test_start__in_production__refuses_until_prepared_then_serves_hashed_compressed_files(
    fresh_database: str, tmp_path: Path
) -> None:
    settings = {**PRODUCTION, "DATABASE_URL": fresh_database, "VAR_DIR": str(tmp_path / "var")}

    unmigrated = Server(tmp_path / "unmigrated", env=settings)
    assert unmigrated.exit_code() == 3
    assert "run 'python manage.py migrate' before starting" in unmigrated.log
    assert "Traceback" not in unmigrated.log

    manage("migrate", env=settings)
    uncollected = Server(tmp_path / "uncollected", env=settings)
    assert uncollected.exit_code() == 3
    assert "run 'python manage.py collectstatic --no-input'" in uncollected.log

    manage("collectstatic", "--no-input", env=settings)
    with serving(tmp_path / "log", env=settings) as server, server.client() as client:
        page = client.get("/admin/login/").text
        address = page.split('href="')[1].split('"')[0]
        file = client.get(address, headers={"accept-encoding": "br"})
        ready = client.get("/readyz")

    assert ready.json() == {
        "status": "ready",
        "checks": {"database": "ok", "migrations": "ok", "triggers": "ok", "revocations": "ok"},
    }
    assert address.startswith("/static/admin/css/base.")
    assert address != "/static/admin/css/base.css", "the name carries the content's hash"
    assert file.headers["content-encoding"] == "br"
    assert "immutable" in file.headers["cache-control"]
    assert "access-control-allow-origin" not in file.headers
    assert "Password  " not in server.log


def test_readiness__a_migration_is_missing__says_which_check_fails(fresh_database: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log", env={"DATABASE_URL": fresh_database}) as server, server.client() as client:
        manage("migrate", "admin", "0001", env={"DATABASE_URL": fresh_database})
        answer = client.get("/readyz")
        alive = client.get("/healthz")

    assert answer.status_code == 503
    assert answer.json() == {
        "status": "unavailable",
        "checks": {"database": "ok", "migrations": "failed", "triggers": "ok", "revocations": "ok"},
    }
    assert alive.status_code == 200
    assert "pending: admin.0002" in server.log
