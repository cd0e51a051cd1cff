"""The committed documents: ``python -m contract`` holds the API to them, and names what breaks apart from the rest."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.__main__ import BASE_URL, FOLDER
from tests.asgi.server import ROOT

PATIENCE_S = 60


def contract(*arguments: str | Path) -> tuple[int, str]:
    """The exit code of the command, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "contract", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The committed documents, to be changed."""
    for file in FOLDER.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_committed_documents__are_the_apis_and_name_no_machine() -> None:
    assert contract() == (0, "")
    text = (FOLDER / "v1.json").read_text()
    assert BASE_URL in text
    assert "127.0.0.1" not in text


def test_contract__the_api_differs__names_breaks_apart_and_writes_them_when_told(folder: Path) -> None:
    file = folder / "v1.json"
    committed = file.read_bytes()
    document: dict[str, Any] = json.loads(committed)
    schemas = document["components"]["schemas"]
    schemas["UserOut"]["properties"]["nickname"] = {"type": "string"}  # As if the API had lost it,
    del schemas["UserCreate"]["properties"]["display_name"]  # and gained this one.
    file.write_text(json.dumps(document))
    (folder / "v0.json").write_text(json.dumps(document))

    code, said = contract(folder)
    assert code == 1
    first, last = said.split("docs/openapi/v1.json differs")
    assert "GET /users/me: operation removed" in first, "a version is gone"
    breaks, _, additions = last.partition("does not break clients:")
    assert "GET /users/me: response 200.nickname: field removed" in breaks
    assert "POST /users: request body.display_name: field added" in additions
    assert "make openapi" in additions

    assert contract(folder, "--write")[0] == 0
    assert file.read_bytes() == committed
    assert not (folder / "v0.json").exists()
    assert contract(folder) == (0, "")


def test_contract__words_differ__fails_and_says_that_it_is_only_words(folder: Path) -> None:
    file = folder / "v1.json"
    file.write_text(file.read_text().replace("Create a user.", "Make a user."))

    code, said = contract(folder)

    assert code == 1
    assert "in words only" in said
    assert "breaks clients" not in said
