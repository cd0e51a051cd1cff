# ruff: noqa: S324  Weak digests are what other programs left.
"""Password hashes brought from elsewhere: nobody is let in by one that cannot be read, and the log says what to add."""

import asyncio
import hashlib
import logging

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import PBKDF2SHA1PasswordHasher, ScryptPasswordHasher
from django.test import override_settings

from project.accounts import hashes
from project.accounts.models import User

SECRET_PART = "Zm9yZWlnbi1oYXNo"
HASHERS = "django.contrib.auth.hashers"
FOREIGN = {
    PBKDF2SHA1PasswordHasher().encode("correct horse", "salt", 1): f"pbkdf2_sha1; add {HASHERS}.PBKDF2SHA1",
    ScryptPasswordHasher().encode("correct horse", "salt", 2): f"scrypt; add {HASHERS}.ScryptPasswordHasher",
    f"bcrypt$$2b$12${SECRET_PART}": f"bcrypt; add {HASHERS}.BCryptPasswordHasher to PASSWORD_HASHERS (and install",
    f"bcrypt_sha256$$2b$12${SECRET_PART}": f"bcrypt_sha256; add {HASHERS}.BCryptSHA256PasswordHasher",
    f"$2b$12${SECRET_PART}": "bcrypt without Django's prefix; store bcrypt$ in front of it, and add",
    f"$2y$12${SECRET_PART}": "bcrypt without Django's prefix; store bcrypt$ in front of it, and add",
    f"$argon2id$v=19$m=102400,t=2,p=8${SECRET_PART}": "argon2 without Django's prefix; store argon2 in front of it",
    f"$6${SECRET_PART}": "sha512crypt; add a hasher",
    f"$P$B{SECRET_PART}": "phpass; add a hasher",
    f"{{SSHA}}{SECRET_PART}": "LDAP's SSHA; add a hasher",
    hashlib.md5(b"correct horse").hexdigest(): "unsalted md5; add a hasher",
    f"md5$${hashlib.md5(b'correct horse').hexdigest()}": "unsalted md5; add a hasher",
    hashlib.sha1(b"correct horse").hexdigest(): "unsalted sha1; add a hasher",
    f"sha1$salt${hashlib.sha1(b'correct horse').hexdigest()}": "sha1; add a hasher",
    hashlib.sha256(b"correct horse").hexdigest(): "unsalted sha256; add a hasher",
    f"{SECRET_PART}${SECRET_PART}": "of an unknown algorithm; add a hasher",
    "correct horse": "of an unknown algorithm; add a hasher",
    "": "of an unknown algorithm; add a hasher",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_logged() -> None:
    hashes._warn.cache_clear()


@pytest.mark.parametrize(("encoded", "line"), FOREIGN.items(), ids=range(len(FOREIGN)))
def test_sign_in__hash_that_nothing_reads__is_refused_and_logged_once_without_the_hash(
    encoded: str, line: str, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.filter(pk=alice.pk).update(password=encoded)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert authenticate(email=alice.email, password="correct horse") is None

    (record,) = [record for record in caplog.records if record.name == hashes.__name__]
    message = record.getMessage()
    assert message.startswith(f"user {alice.pk} cannot sign in: the password's hash is {line}")
    assert not any(
        part and part in message for part in encoded.split("$") if len(part) > 12 and part != "bcrypt_sha256"
    )
    assert "\n" not in message


def test_sign_in__hasher_added__reads_it(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    User.objects.filter(pk=alice.pk).update(password=PBKDF2SHA1PasswordHasher().encode("correct horse", "salt", 1))

    with override_settings(PASSWORD_HASHERS=[f"{HASHERS}.MD5PasswordHasher", f"{HASHERS}.PBKDF2SHA1PasswordHasher"]):
        assert authenticate(email=alice.email, password="correct horse") == alice

    assert "cannot sign in" not in caplog.text


def test_sign_in__no_password__is_no_foreign_hash(database: str, caplog: pytest.LogCaptureFixture) -> None:
    User.objects.create_user("alice@example.com")

    assert authenticate(email="alice@example.com", password="x") is None
    assert "cannot sign in" not in caplog.text


@pytest.mark.attack
@pytest.mark.parametrize("encoded", ["md5$", "md5$onlysalt", "md5$a$b$c$d"])
def test_sign_in__malformed_hash_of_a_known_algorithm__is_refused_and_no_error(
    encoded: str, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.filter(pk=alice.pk).update(password=encoded)

    assert authenticate(email=alice.email, password="x") is None


def test_check_password__by_either_protocol__says_the_same(caplog: pytest.LogCaptureFixture) -> None:
    user = User(pk=7, email="x@example.com", password="pbkdf2_sha1$1$salt$hash")

    assert not user.check_password("x")
    assert not asyncio.run(user.acheck_password("x"))
    assert caplog.text.count("user 7 cannot sign in: the password's hash is pbkdf2_sha1") == 1


def test_log__of_many_users__forgets_the_oldest() -> None:
    assert hashes._warn.cache_info().maxsize == hashes.MOST_REMEMBERED
