"""People of another issuer: whom their tokens speak for, by the policy that the configuration states."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.db.models import F

from fastapi_app.core.claims import Claims
from fastapi_app.core.credentials import Credential, Principal
from fastapi_app.core.database import Database, open_database
from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.external_users import LOOK_AGAIN_AFTER_S, ExternalSubjects
from fastapi_app.core.revocation import RevocationView
from project.accounts.models import User
from project.config import ClaimNames, TrustedIssuer, config
from project.identity.models import ExternalIdentity
from tests.fixtures import give

pytestmark = pytest.mark.asyncio

ISSUER = "https://idp.example"


@pytest_asyncio.fixture
async def api(database: str) -> AsyncIterator[Database]:
    """The database, and a Django thread as a request has one."""
    async with open_database(config) as opened, ThreadSensitiveContext():
        yield opened
        await sync_to_async(connections.close_all)()


def trusting(**settings: Any) -> TrustedIssuer:
    return TrustedIssuer(issuer=ISSUER, audiences=("the-api",), **settings)


def claims(**changes: Any) -> dict[str, Any]:
    return {
        "sub": "external-1",
        "client_id": "web",
        "scope": "openid users:read users:write",
        "exp": time.time() + 3600,
        "email": "alice@example.com",
        "email_verified": True,
        **changes,
    }


async def credential(api: Database, settings: TrustedIssuer, **changes: Any) -> Credential:
    expires_at = time.time() + 3600
    return await ExternalSubjects(settings, api).credential(Claims(claims(**changes)), expires_at=expires_at, kid=None)


async def refused(api: Database, settings: TrustedIssuer, **changes: Any) -> bool:
    try:
        await credential(api, settings, **changes)
    except Unauthenticated:
        return not await ExternalIdentity.objects.aexists()
    return False


async def link(user: User, subject: str = "external-1", issuer: str = ISSUER) -> None:
    await ExternalIdentity.objects.acreate(issuer=issuer, subject=subject, user=user)


async def emails() -> set[str]:
    """Whom there are, but for the administrator whom a server's first start makes."""
    return {user.email async for user in User.objects.filter(is_superuser=False)}


# Nobody is linked by the way


async def test_none__not_linked__is_refused_whatever_the_address(api: Database, alice: User) -> None:
    assert await refused(api, trusting())


async def test_none__linked_by_hand__speaks_for_that_user_with_the_scopes_that_they_hold(
    api: Database, alice: User, bob: User
) -> None:
    await sync_to_async(give)(bob, "view_user")
    await link(bob)

    found = await credential(api, trusting())

    assert found.principal == Principal(bob.pk, "web", frozenset({"users:read"})), "the e-mail address does not matter"
    assert found.expires_at <= time.time() + LOOK_AGAIN_AFTER_S


async def test_none__linked_at_another_issuer__is_refused(api: Database, alice: User) -> None:
    await link(alice, issuer="https://other.example")

    with pytest.raises(Unauthenticated, match="no user here"):
        await credential(api, trusting())


async def test_linked__deactivated__is_refused(api: Database, alice: User) -> None:
    await link(alice)
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)

    with pytest.raises(Unauthenticated, match="deactivated"):
        await credential(api, trusting(users="create"))


async def test_linked__what_ends_their_tokens__makes_us_look_again(api: Database, alice: User) -> None:
    await link(alice)
    view = RevocationView(api, remember_s=3600)
    before = await credential(api, trusting())
    await User.objects.filter(pk=alice.pk).aupdate(token_version=F("token_version") + 1)
    await view.poll()

    assert view.is_revoked(before.revocable)
    assert not view.is_revoked((await credential(api, trusting())).revocable)


# By a verified e-mail address


async def test_email__verified__links_once(api: Database, alice: User) -> None:
    settings = trusting(users="email")

    assert (await credential(api, settings, email="Alice@Example.com")).principal.user_id == alice.pk
    assert (await credential(api, settings, email="bob@example.com")).principal.user_id == alice.pk

    identity = await ExternalIdentity.objects.aget()
    assert (identity.issuer, identity.subject, identity.user_id) == (ISSUER, "external-1", alice.pk)


@pytest.mark.parametrize(
    "changes",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "false"},
        {"email_verified": 0},
        {"email_verified": "yes"},
        {"email_verified": {"true": True}},
        {"email": "alice@example.com\x00"},
        {"email": "\ud800@example.com"},
        {"email": "a" * 400 + "@example.com"},
        {"email_verified": ["true"]},
        {"email": None},
        {"email": ["alice@example.com"]},
        {"email": "nobody@example.com"},
    ],
)
async def test_email__not_verified_or_nobodys__is_refused(
    changes: dict[str, object], api: Database, alice: User
) -> None:
    assert await refused(api, trusting(users="email"), **changes)
    assert await emails() == {"alice@example.com"}


@pytest.mark.parametrize("verified", [True, "true", "True", "TRUE", 1, "1"])
@pytest.mark.parametrize("path", ["email_verified", "https://idp.example/verified", "identity.verified"])
async def test_email__verified_in_any_form__links(verified: object, path: str, api: Database, alice: User) -> None:
    settings = trusting(users="email", claims=ClaimNames(email_verified=path))
    claim = {"identity": {"verified": verified}} if path == "identity.verified" else {path: verified}

    assert (await credential(api, settings, **{"email_verified": None, **claim})).principal.user_id == alice.pk


@pytest.mark.attack
@pytest.mark.parametrize(
    "changes",
    [
        {"scope": 5}, {"scope": {"users:read": 1}}, {"scope": [["users:read"]]}, {"scope": "\ud800"},
        {"client_id": ["web"]}, {"client_id": 5}, {"client_id": "\x00"}, {"client_id": "w" * 300},
        {"sub": "\x00"}, {"sub": "\ud800"}, {"sub": "s" * 300}, {"sub": 7},
    ],
    ids=repr,
)  # fmt: skip
async def test_claim__of_a_wrong_type__is_refused_by_either_database(
    changes: dict[str, object], api: Database, alice: User
) -> None:
    await link(alice)

    with pytest.raises(Unauthenticated, match="not valid"):
        await credential(api, trusting(users="create"), **changes)


@pytest.mark.parametrize("field", ["is_staff", "is_superuser"])
async def test_email__of_an_administrator__is_not_linked_by_itself(field: str, api: Database, alice: User) -> None:
    await User.objects.filter(pk=alice.pk).aupdate(**{field: True})

    assert await refused(api, trusting(users="email"))
    assert await refused(api, trusting(users="create"))


async def test_email__of_somebody_deactivated__is_not_linked(api: Database, alice: User) -> None:
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)

    assert await refused(api, trusting(users="create"))


# Made when there is none


async def test_create__unknown_address__makes_a_user_without_password_or_rights(api: Database, alice: User) -> None:
    found = await credential(api, trusting(users="create"), email="New@Example.com")

    new = await User.objects.aget(email="new@example.com")
    assert found.principal == Principal(new.pk, "web", frozenset())
    assert not new.has_usable_password()
    assert (new.is_staff, new.is_superuser) == (False, False)


async def test_create__known_address__links(api: Database, alice: User) -> None:
    assert (await credential(api, trusting(users="create"))).principal.user_id == alice.pk


@pytest.mark.parametrize(
    "changes", [{"email_verified": False, "email": "new@example.com"}, {"email": "not an address"}, {"email": ""}]
)
async def test_create__without_a_verified_address__makes_nobody(
    changes: dict[str, object], api: Database, alice: User
) -> None:
    assert await refused(api, trusting(users="create"), **changes)
    assert await emails() == {"alice@example.com"}


async def test_create__eight_at_once__make_one_user(api: Database) -> None:
    async def in_a_request_of_its_own() -> int | None:
        async with ThreadSensitiveContext():
            try:
                return (await credential(api, trusting(users="create"))).principal.user_id
            finally:
                await sync_to_async(connections.close_all)()

    ids = await asyncio.gather(*(asyncio.create_task(in_a_request_of_its_own()) for _ in range(8)))

    assert len(set(ids)) == 1
    assert await ExternalIdentity.objects.acount() == 1


# Claims by other names


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"claims": ClaimNames(scope="scp", client_id="cid")}, {"scp": ["users:read"], "cid": "web"}),
        ({"claims": ClaimNames(scope="scp", client_id="azp")}, {"scp": "users:read", "azp": "web"}),
        (
            {"claims": ClaimNames(scope="realm_access.roles", client_id="azp")},
            {"realm_access": {"roles": ["users:read"]}, "azp": "web"},
        ),
        (
            {"claims": ClaimNames(email="https://app.example/email", scope="permissions")},
            {"https://app.example/email": "alice@example.com", "permissions": ["users:read"]},
        ),
    ],
)
async def test_claims__by_the_issuers_names__are_read(
    settings: dict[str, Any], changes: dict[str, Any], api: Database, alice: User
) -> None:
    await sync_to_async(give)(alice, "view_user")
    others = {"scope": "users:write", "client_id": None if "cid" in changes or "azp" in changes else "web"}

    found = await credential(api, trusting(users="email", **settings), **others, **changes)

    assert found.principal == Principal(alice.pk, "web", frozenset({"users:read"}))


# Machines


@pytest.mark.parametrize(
    ("machine_when", "changes"),
    [
        ({"sub": "{client_id}"}, {"sub": "web"}),
        ({"sub": "{client_id}@clients"}, {"sub": "web@clients"}),
        ({"idtyp": "app"}, {"idtyp": "app"}),
        ({"preferred_username": "service-account-{client_id}"}, {"preferred_username": "service-account-web"}),
    ],
)
async def test_machine__as_the_issuer_marks_it__has_what_its_client_was_granted(
    machine_when: dict[str, str], changes: dict[str, str], api: Database, alice: User
) -> None:
    found = await credential(api, trusting(machine_when=machine_when), **changes)

    assert found.principal == Principal(None, "web", frozenset({"users:read", "users:write"}), ISSUER)
    assert found.principal.name != Principal(None, "web", frozenset()).name, "our own client of that name is another"
    roles = trusting(machine_when=machine_when, claims=ClaimNames(machine_scope="roles"))
    by_role = await credential(api, roles, **changes, roles=["users:read"])
    assert by_role.principal.scopes == {"users:read"}
    assert await refused(api, trusting(), **changes), "unless the configuration says how, nobody is a machine"
    assert await refused(api, trusting(machine_when=machine_when)), "another's token is a user's"
    assert await refused(api, trusting(machine_when=machine_when), **changes, client_id=None)


# By whatever spelling


@pytest.mark.parametrize("spelling", ["hong@한국.example", "HONG@xn--3e0b707e.EXAMPLE"])
async def test_email__in_either_form_of_its_domain__links(spelling: str, api: Database, database: str) -> None:
    hong = await User.objects.acreate(email="hong@한국.example")

    assert (await credential(api, trusting(users="email"), email=spelling)).principal.user_id == hong.pk


@pytest.mark.attack
@pytest.mark.parametrize(
    "spelling",
    [
        "\uff41lice@example.com",
        "alice\uff20example.com",
        "al\u0130ce@example.com",
        "ali\u0307ce@example.com",
        "ali\u200bce@example.com",
        "\u0430lice@example.com",
        " alice@example.com",
        "Alice <alice@example.com>",
        "kelvi\u212a@example.com",
    ],
)
@pytest.mark.parametrize("policy", ["email", "create"])
async def test_email__that_is_folded_into_another__links_and_makes_nobody(
    policy: Any, spelling: str, api: Database, alice: User
) -> None:
    await User.objects.acreate(email="kelvik@example.com")

    assert await refused(api, trusting(users=policy), email=spelling)
    assert await User.objects.acount() == 2


async def test_scopes__with_the_issuers_prefix__count_without_it(api: Database, alice: User) -> None:
    """Cognito's: the resource server's identifier and a slash."""
    settings = trusting(machine_when={"sub": "{client_id}"}, scope_prefix="tandem-api/")

    found = await credential(api, settings, sub="web", scope="tandem-api/users:read users:write other/users:write")

    assert found.principal.scopes == {"users:read"}
