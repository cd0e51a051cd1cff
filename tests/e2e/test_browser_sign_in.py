"""A real browser signs in with international addresses, and saves their users in the admin.

A test without a browser sends what it likes; Chromium sends what its input elements make of what a person types.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from project.accounts.models import User
from project.config import config
from project.identity.hashers import BoundedArgon2PasswordHasher
from tests.asgi.server import serving
from tests.fixtures import absent
from tests.npm import installed

NODE = Path(__file__).parent / "node"
PATIENCE_S = 240
ADDRESSES = {
    "hong@한국.example": "hong@xn--3e0b707e.example",
    "홍길동@example.com": "홍길동@example.com",
    "ada@corp.local": "ada@corp.local",
}
"""As people type them, and as they are stored."""


@pytest.fixture
def chromium() -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        absent("no Chromium")
    return str(program)


def test_browser__international_addresses__sign_in_and_are_saved_unchanged(
    chromium: str, database: str, tmp_path: Path
) -> None:
    hasher = BoundedArgon2PasswordHasher()  # The server knows none of the tests' cheap ones.
    for address in ADDRESSES:
        User.objects.create_superuser(address)
    User.objects.update(password=hasher.encode("correct horse", hasher.salt()))

    with serving(tmp_path / "log", env={"DATABASE_URL": config.database}) as server:
        pictures = os.environ.get("PICTURES", "")
        command = ["node", "sign_in.mjs", chromium, server.url, "correct horse", pictures, *ADDRESSES]
        done = subprocess.run(
            command, cwd=installed(NODE), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    assert done.returncode == 0, done.stderr + server.log
    users = dict(User.objects.filter(email__in=ADDRESSES.values()).values_list("email", "display_name"))
    assert users == dict.fromkeys(ADDRESSES.values(), "Saved")
