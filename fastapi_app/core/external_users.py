"""Another issuer's people: its (``iss``, ``sub``) is one of our users, by a link that is written once.

What they may do is ours to say: a scope counts when the token carries it and the user holds its permissions.
"""

import time

from sqlalchemy import bindparam

from fastapi_app.core.bridge import link_external_user
from fastapi_app.core.claims import Claims, required
from fastapi_app.core.credentials import Credential, Principal, refuse
from fastapi_app.core.database import Database
from fastapi_app.core.permissions import held_scopes, with_permissions
from fastapi_app.core.revocation import Revocable
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import ExternalIdentity, User
from project.config import TrustedIssuer
from project.scopes import SCOPES

LOOK_AGAIN_AFTER_S = 300.0
"""How long a link is believed without a look; what ends a user's tokens makes us look at once."""

_LINKED = Statement(
    with_permissions(User.id)
    .join(ExternalIdentity, ExternalIdentity.user_id == User.id)
    .where(ExternalIdentity.issuer == bindparam("issuer"), ExternalIdentity.subject == bindparam("subject"))
)


class ExternalSubjects:
    """The users, and the machine clients, of one external issuer."""

    def __init__(self, settings: TrustedIssuer, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def credential(self, claims: Claims, *, expires_at: float, kid: str | None) -> Credential:
        names = self._settings.claims
        client_id = claims.identifier(names.client_id) or ""
        if self._is_machine(claims, client_id):
            scopes = self._scopes(claims, names.machine_scope or names.scope) & SCOPES.keys()
            return Credential(Principal(None, client_id, scopes, self._settings.issuer), expires_at, Revocable())
        subject, scopes = required(claims.identifier("sub")), self._scopes(claims, names.scope)
        rows = await self._find(subject) or await self._link(claims, subject)
        user = rows[0]
        if not user["is_active"]:
            refuse("its user is deactivated")
        return Credential(
            Principal(user["id"], client_id, scopes & held_scopes(rows)),
            min(expires_at, time.time() + LOOK_AGAIN_AFTER_S),
            Revocable(user=str(user["id"]), user_version=user["token_version"]),
        )

    def _scopes(self, claims: Claims, name: str) -> frozenset[str]:
        """The scopes that have the issuer's prefix, without it."""
        prefix = self._settings.scope_prefix
        return frozenset(scope.removeprefix(prefix) for scope in claims.scopes(name) if scope.startswith(prefix))

    def _is_machine(self, claims: Claims, client_id: str) -> bool:
        marks = self._settings.machine_when
        return bool(client_id and marks) and all(
            claims.find(name) == value.replace("{client_id}", client_id) for name, value in marks.items()
        )

    async def _find(self, subject: str) -> list[Row]:
        return await self._database.fetch_all(_LINKED, issuer=self._settings.issuer, subject=subject)

    async def _link(self, claims: Claims, subject: str) -> list[Row]:
        """Link the subject to a user, as far as the policy allows."""
        names, policy = self._settings.claims, self._settings.users
        if policy != "none" and claims.is_true(names.email_verified) and (email := claims.text(names.email)):
            await link_external_user(self._settings.issuer, subject, email, may_create=policy == "create")
        return await self._find(subject) or refuse("it speaks for no user here")
