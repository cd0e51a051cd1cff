"""The loop of a developer: edit a model, make migrations, done; and what stops who forgets."""

import subprocess
import sys
from pathlib import Path

import pytest

from project.config import BASE_DIR

SETTINGS = """
from project.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
SCHEMA_APPS = ["shop"]
SCHEMA_FILE = {file!r}
"""
MODEL = """
from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=40)
"""
FIELD = "    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)\n"


class Shop:
    """A project of one app, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "shop" / "models.py"
        self.tables = folder / "tables.py"
        (folder / "shop" / "migrations").mkdir(parents=True)
        for package in ("shop", "shop/migrations"):
            (folder / package / "__init__.py").touch()
        self.models.write_text(MODEL)
        (folder / "shop_settings.py").write_text(SETTINGS.format(file=str(self.tables)))

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments, "--settings", "shop_settings"],
            cwd=BASE_DIR,
            env={"PYTHONPATH": f"{BASE_DIR}:{self.folder}", "VAR_DIR": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_makemigrations__model_edited__check_fails_and_names_the_column_until_migrations_are_made(shop: Shop) -> None:
    made = shop.manage("makemigrations", "shop")
    assert made.returncode == 0, made.stderr
    assert "tables.py: written" in made.stdout
    before = shop.tables.read_text()

    shop.models.write_text(MODEL + FIELD)
    checked = shop.manage("generate_tables", "--check")
    assert checked.returncode == 1
    assert "\n+    price: Mapped[Decimal | None] = mapped_column(ExactDecimal(8, 2))\n" in checked.stdout
    assert "run 'python manage.py generate_tables'" in checked.stderr

    tried = shop.manage("makemigrations", "--check")
    assert "(schema.W001)" in tried.stderr
    assert "+    price: Mapped[Decimal | None]" in tried.stderr
    assert shop.tables.read_text() == before

    shop.manage("makemigrations")
    assert shop.manage("generate_tables", "--check").returncode == 0


def test_generate_tables__field_that_cannot_be_mapped__ends_with_one_line_that_names_it(shop: Shop) -> None:
    shop.models.write_text(MODEL + "    code = models.Field()\n")

    made = shop.manage("generate_tables")

    assert made.returncode == 1
    assert made.stderr.startswith("CommandError: shop.Product.code: no SQLAlchemy type is known for Field. Say which")
    assert not shop.tables.exists()
