"""What the toolkit's validator decides otherwise here: single use under concurrency, families, scopes, revocation.

Every method runs inside the transaction of its request (project.identity.views), and takes the lock on the row that
decides before it looks. docs/decisions/0009-issuer.md says what each one mends.
"""

import time
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone
from oauth2_provider.models import (
    get_access_token_model,
    get_device_grant_model,
    get_grant_model,
    get_refresh_token_model,
)
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.common import Request as OAuthRequest

from project.accounts.models import User
from project.clients.models import Client
from project.config import config
from project.identity import revocation
from project.identity.lifetimes import ID_TOKEN_TTL_S, REFRESH_GRACE_S, REFRESH_TOKEN_TTL_S
from project.identity.models import SignIn
from project.identity.scopes import understood
from project.identity.tokens import (
    ACCESS_TOKEN_TYPE,
    DEVICE_CODE,
    ID_TOKEN_TYPE,
    checksum,
    claims_of,
    family_begun_by,
    family_of,
    good_claims,
    sign,
)

AccessToken, RefreshToken = get_access_token_model(), get_refresh_token_model()
Grant, DeviceGrant = get_grant_model(), get_device_grant_model()


class Validator(OAuth2Validator):
    """The rules of this issuer."""

    # Clients

    def _extract_basic_auth(self, request: OAuthRequest) -> str | None:
        """None: the view has moved such credentials into the body (project.identity.parameters)."""

    def is_origin_allowed(self, client_id: str, origin: str, request: OAuthRequest, *args: Any, **kwargs: Any) -> bool:
        """Whether scripts of a web origin may read tokens; browsers write each origin in one way (RFC 6454)."""
        return origin in request.client.allowed_origins.split()

    # Scopes

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Client, request: OAuthRequest, *args: Any, **kwargs: Any
    ) -> bool:
        """Ignore unknown scopes, such as ``offline_access`` (OpenID Connect Core 1.0, section 3.1.2.1).

        A request for unknown scopes only is refused, because without them it would be one for all.
        """
        request.scopes = understood(scopes)
        return bool(request.scopes or not scopes) and bool(
            super().validate_scopes(client_id, request.scopes, client, request, *args, **kwargs)
        )

    def is_within_original_scope(
        self, request_scopes: list[str], refresh_token: str, request: OAuthRequest, *args: Any, **kwargs: Any
    ) -> bool:
        request.scopes = understood(request_scopes)
        return bool(request.scopes) and set(request.scopes) <= set(request.granted_scopes)

    # Authorization codes

    def validate_code(
        self, client_id: str, code: str, client: Client, request: OAuthRequest, *args: Any, **kwargs: Any
    ) -> bool:
        """A code is good once. When it comes again, what came from it dies (RFC 6749, section 4.1.2)."""
        grant = Grant.objects.select_for_update().filter(code=code).first()
        if grant is None:
            revocation.end_replayed(family_begun_by(code), reason="a code was used twice")
            return False
        if grant.application_id != client.pk or not grant.user.is_active:
            return False
        if revocation.has_ended(family_begun_by(code)):
            return False  # Its user has logged out meanwhile.
        return bool(super().validate_code(client_id, code, client, request, *args, **kwargs))

    # Refresh tokens

    def validate_refresh_token(
        self, refresh_token: str, client: Client, request: OAuthRequest, *args: Any, **kwargs: Any
    ) -> bool:
        """Take a token once, and once more within the grace; later use means that somebody copied it.

        Within the grace another pair joins the family: of two tabs that refresh at once neither is logged out.
        """
        token = (
            RefreshToken.objects.select_for_update()
            .filter(token_checksum=checksum(refresh_token))
            .order_by("-id")
            .first()
        )
        if token is None or token.application_id != client.pk or revocation.has_ended(token.token_family):
            return False
        if not token.user.is_active:
            revocation.end_family(token.token_family, reason="the user is deactivated")
            return False
        if token.revoked is not None and not self._is_in_grace(token):
            revocation.end_family(token.token_family, reason="a refresh token was used twice")
            return False
        if token.revoked is None and self._is_too_old(token):
            return False
        request.user = token.user
        request.refresh_token = refresh_token
        request.refresh_token_instance = token
        return True

    def _is_in_grace(self, token: Any) -> bool:
        """Whether it was exchanged just now, by the database's clock, and its family has not been revoked."""
        lately = Now() - timedelta(seconds=REFRESH_GRACE_S)
        is_recent = RefreshToken.objects.filter(pk=token.pk, revoked__gt=lately).exists()
        return is_recent and bool(self._living(token).exists())

    def _is_too_old(self, token: Any) -> bool:
        access_token = token.access_token
        over = timezone.now() - timedelta(seconds=REFRESH_TOKEN_TTL_S)
        return access_token is None or access_token.expires <= over

    def _living(self, token: Any) -> Any:
        return RefreshToken.objects.filter(token_family=token.token_family, revoked__isnull=True)

    def get_original_scopes(self, refresh_token: str, request: OAuthRequest, *args: Any, **kwargs: Any) -> list[str]:
        """What the user once allowed this family, whatever of it they hold at present."""
        token = request.refresh_token_instance
        if token.revoked is not None:
            token = self._living(token).select_related("access_token").first()
        request.granted_scopes = token.access_token.scope.split()
        return list(request.granted_scopes)

    # Devices

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Client, request: OAuthRequest, *args: Any, **kwargs: Any
    ) -> bool:
        """Beside the toolkit's check: a device code is good for the client that asked for it, and knows its user."""
        if not super().validate_grant_type(client_id, grant_type, client, request, *args, **kwargs):
            return False
        if grant_type == DEVICE_CODE:
            grant = DeviceGrant.objects.get(device_code=request.device_code)
            request.user, request.scopes = grant.user, grant.scope.split()
            return bool(grant.client_id == request.client.client_id)
        return True

    # What is kept

    def _save_bearer_token(self, token: dict[str, Any], request: OAuthRequest, *args: Any, **kwargs: Any) -> None:
        """Keep the pair's checksums, and what was allowed; the token that was exchanged is used up."""
        if request.grant_type == "client_credentials":
            return  # It has no refresh token, and whoever revokes it shows it.
        exchanged = vars(request).get("refresh_token_instance")
        if exchanged is not None and exchanged.revoked is None:
            AccessToken.objects.filter(pk=exchanged.access_token_id).delete()
            RefreshToken.objects.filter(pk=exchanged.pk).update(revoked=Now(), updated=Now())
        allowed = {**token, "scope": " ".join(request.granted_scopes)}
        expires = timezone.now() + timedelta(seconds=token["expires_in"])
        access_token = self._create_access_token(expires, request, allowed)
        self._create_refresh_token(request, token["refresh_token"], access_token, exchanged)

    def _create_refresh_token(
        self, request: OAuthRequest, refresh_token_code: str, access_token: Any, previous_refresh_token: Any
    ) -> Any:
        refresh_token = RefreshToken(
            user=request.user,
            application=request.client,
            access_token=access_token,
            token_family=family_of(request),
            resource=request.resource,
        )
        self._set_token_value(refresh_token, refresh_token_code)
        refresh_token.save()
        return refresh_token

    # Revocation (RFC 7009)

    def revoke_token(
        self, token: str, token_type_hint: str | None, request: OAuthRequest, *args: Any, **kwargs: Any
    ) -> None:
        """End the log-in that a token belongs to, or the token itself when it belongs to none; only for its client."""
        refresh_token = RefreshToken.objects.filter(token_checksum=checksum(token)).first()
        if refresh_token is not None:
            if refresh_token.application_id == request.client.pk:
                revocation.end_family(refresh_token.token_family, reason="revoked by the client")
            return
        claims = claims_of(token, ACCESS_TOKEN_TYPE)
        if claims is None or claims["client_id"] != request.client.client_id:
            return
        if "family" in claims:
            revocation.end_family(claims["family"], reason="revoked by the client")
        else:
            revocation.end_token(claims["jti"], reason="revoked by the client")

    # OpenID Connect

    def get_additional_claims(self, request: OAuthRequest) -> dict[str, Any]:
        """What the scopes ``profile`` and ``email`` tell (OpenID Connect Core 1.0, section 5.1)."""
        return {"name": request.user.get_full_name(), "email": request.user.email}

    def finalize_id_token(
        self, id_token: dict[str, Any], token: dict[str, Any], token_handler: Any, request: OAuthRequest
    ) -> str:
        """Sign with the key that signs now. ``sid`` is the log-in's family, so that a logout can end it.

        A refreshed token says what the first one said, but for its times (OpenID Connect Core 1.0, section 12.2). It
        has no ``nonce``.
        """
        family = family_of(request)
        signed_in = SignIn.objects.filter(family=family).first()
        claims = {
            **id_token,
            **self.get_oidc_claims(token, token_handler, request),
            "iss": config.base_url,
            "exp": int(time.time()) + ID_TOKEN_TTL_S,
            **(signed_in.claims if signed_in else {}),
            "sid": str(family),
        }
        return sign(claims, ID_TOKEN_TYPE)

    def _load_id_token(self, token: str) -> None:
        """None is kept: an ID token proves itself by its signature."""

    def validate_bearer_token(self, token: str | None, scopes: list[str], request: OAuthRequest) -> bool:
        """Whether an access token is good for userinfo, at this moment and not only until it expires."""
        claims = good_claims(token) if token else None
        if claims is None or "token_version" not in claims:
            return False
        request.scopes = claims["scope"].split()
        if not set(scopes) <= set(request.scopes):
            return False
        request.user = User.objects.get(pk=claims["sub"])
        request.client = Client.objects.filter(client_id=claims["client_id"]).first()
        request.access_token = token
        return True

    validate_jwt_bearer_token = validate_bearer_token

    def validate_silent_login(self, request: OAuthRequest) -> bool:
        """The view knows who is logged in, and answers before it comes to this."""
        return True

    validate_silent_authorization = validate_silent_login

    def get_authorization_code_scopes(
        self, client_id: str, code: str, redirect_uri: str, request: OAuthRequest
    ) -> list[str]:
        grant = Grant.objects.filter(code=code).first()
        return grant.scope.split() if grant else []
