"""The generated files: what the models say, in order, and as the tools would have it."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastapi_app.core import tables as product
from project import settings as project_settings
from project.config import BASE_DIR
from project.schema.render import render
from tests import settings as tests_settings

FILES = [
    (project_settings.SCHEMA_APPS, project_settings.SCHEMA_FILE),
    (tests_settings.SCHEMA_APPS, tests_settings.SCHEMA_FILE),
]
each_file = pytest.mark.parametrize(("apps", "file"), FILES, ids=["product", "everyfield"])


@each_file
def test_render__on_either_database__says_what_the_file_says(database: str, apps: list[str], file: Path) -> None:
    assert render(apps) == file.read_text()


@pytest.mark.parametrize(
    "tool",
    [
        "ruff format --check",
        "ruff check",
        # Without the project's settings, which would have it look at Django too; with a cache of its own.
        "mypy --strict --config-file= --follow-imports=silent --cache-dir=.mypy_cache/generated",
    ],
)
def test_files__under_the_projects_own_tools__are_clean(tool: str) -> None:
    program, *options = tool.split()
    files = [str(file) for _apps, file in FILES]

    checked = subprocess.run(
        [Path(sys.executable).with_name(program), *options, *files],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_render__an_app_whose_keys_lead_to_others__brings_those_tables_along() -> None:
    assert {"accounts_user", "auth_group", "auth_permission", "django_content_type"} <= set(
        product.Base.metadata.tables
    )


def test_render__an_app_that_is_not_installed__says_so() -> None:
    with pytest.raises(LookupError, match="No installed app with label 'shop'"):
        render(["shop"])
