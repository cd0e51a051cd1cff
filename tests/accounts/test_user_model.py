"""The user in the database: what it refuses whoever writes, and what it fills in."""

from collections.abc import Callable

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError, connection, transaction

from project.accounts.models import User


def test_create_user__any_spelling__is_stored_and_found_in_lower_case(database: str) -> None:
    user = User.objects.create_user("Alice@Example.COM", "correct horse")

    assert user.email == "alice@example.com"
    assert User.objects.get(email="ALICE@example.com") == user
    assert authenticate(email="aLiCe@example.com", password="correct horse") == user
    assert authenticate(email="alice@example.com", password="wrong") is None


def test_create_user__without_an_address__is_refused(database: str) -> None:
    with pytest.raises(ValueError, match="needs an e-mail address"):
        User.objects.create_user("")


def test_create_user__without_a_password__cannot_log_in(database: str) -> None:
    user = User.objects.create_user("alice@example.com")

    assert not user.has_usable_password()
    assert authenticate(email="alice@example.com", password="") is None


def test_save__address_is_taken_in_another_case__is_refused(alice: User) -> None:
    with pytest.raises(IntegrityError):
        User(email="ALICE@EXAMPLE.COM").save()


def insert(columns: str, values: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"insert into accounts_user ({columns}) values ({values})")


def test_raw_insert__address_alone__gets_safe_defaults_from_the_database(database: str) -> None:
    insert("email", "'raw@example.com'")

    user = User.objects.get(email="raw@example.com")
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert user.display_name == ""
    assert not user.has_usable_password()
    assert user.created_at == user.updated_at
    assert user.created_at.tzinfo is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda: insert("email", "'ALICE@example.com'"),
        lambda: insert("email", "'alice@example.com'"),
        lambda: insert("email", "null"),
    ],
    ids=["upper case", "taken", "null"],
)
def test_raw_insert__bad_address__is_refused_by_the_database(write: Callable[[], None], alice: User) -> None:
    with pytest.raises(IntegrityError):
        write()


def test_save__again__moves_updated_at_only(alice: User) -> None:
    created, updated = alice.created_at, alice.updated_at
    alice.display_name = "A."
    alice.save()
    alice.refresh_from_db()

    assert alice.created_at == created
    assert alice.updated_at > updated
