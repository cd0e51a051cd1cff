"""``python -m contract``: compare the API with the documents in docs/openapi; ``--write`` writes them anew.

Exits 1 when a document differs. Breaking changes are named apart from the others.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from contract.compare import Change, compare

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "openapi"
BASE_URL = "https://api.example.com"
"""In place of the address of this machine, which says nothing about the API."""


def documents() -> dict[str, dict[str, Any]]:
    """The OpenAPI document of each version, by its name."""
    os.environ.update(DJANGO_SETTINGS_MODULE="project.settings", BASE_URL=BASE_URL)
    import django  # noqa: PLC0415  It reads the environment set above.

    django.setup()
    from fastapi_app.app import VERSIONS, create_api  # noqa: PLC0415
    from fastapi_app.core.docs import openapi_document  # noqa: PLC0415

    api = create_api()
    return {version.name: openapi_document(api, version, server=f"/api/{version.name}") for version in VERSIONS}


def report(name: str, changes: list[Change]) -> str:
    """What changed in the document called ``name``, what breaks clients first."""
    lines = [f"docs/openapi/{name}.json differs from the API:"]
    for title, breaking in (("breaks clients", True), ("does not break clients", False)):
        found = [change for change in changes if change.is_breaking is breaking]
        lines += [f"  {title}:", *(f"    {change}" for change in found)] if found else []
    return "\n".join(lines if changes else [*lines, "  in words only (descriptions, examples, order)"])


def main() -> int:
    """Compare, or write; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m contract", description="Guard the committed OpenAPI documents.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="where they are")
    parser.add_argument("--write", action="store_true", help="write them anew, and say what has changed")
    options = parser.parse_args()
    current = {name: json.dumps(document, indent=2, ensure_ascii=False) for name, document in documents().items()}
    committed = {file.stem: file.read_text().rstrip() for file in sorted(options.folder.glob("*.json"))}
    differing = [name for name in {**committed, **current} if committed.get(name) != current.get(name)]
    for name in differing:
        changes = compare(*(json.loads(side.get(name, "{}")) for side in (committed, current)))
        sys.stderr.write(f"{report(name, changes)}\n")
    if options.write:
        write(options.folder, current)
    elif differing:
        sys.stderr.write("When this is meant, run: make openapi\n")
    return int(bool(differing) and not options.write)


def write(folder: Path, texts: dict[str, str]) -> None:
    """Make ``folder`` hold these documents and no others."""
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.json"):
        file.unlink()
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
