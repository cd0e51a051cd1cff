"""Tokens: access tokens are JWTs in the profile of RFC 9068, which the API verifies without asking Django."""

import hashlib
import re
import secrets
import time
import uuid
from collections.abc import Iterable
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import import_key
from oauth2_provider.models import get_grant_model
from oauthlib.common import Request as OAuthRequest

from project.accounts.models import User
from project.config import config
from project.identity.keys import public_jwk, signing_key
from project.identity.lifetimes import ACCESS_TOKEN_TTL_S
from project.identity.models import DeviceResources, RevocationEvent, SigningKey
from project.identity.resources import InvalidTargetError, as_audience, known
from project.identity.revocation import client_has_ended, has_ended
from project.identity.scopes import held_by

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105  A media type (RFC 9068, section 2.1), not a secret.
ID_TOKEN_TYPE = "JWT"  # noqa: S105
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
ALGORITHMS = SigningKey.Algorithm.values

type Audience = str | list[str]
"""The claim ``aud``: one text, or several (RFC 7519, section 4.1.3)."""

LARGEST_INTEGER = 2**63 - 1
"""What a column for ids holds."""

is_scope = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII).fullmatch
"""Whether a text is a scope-token of RFC 6749, section 3.3."""


def issue_access_token(user: User, scopes: Iterable[str], *, ttl_s: int, client_id: str) -> str:
    """Sign an access token for the API with which ``client_id`` acts for ``user`` for ``ttl_s`` seconds.

    The caller answers for the scopes: ``project.identity.scopes.held_by`` says which the user may have.
    """
    claims = {**_claims_about(user), "client_id": client_id}
    return _sign_access_token(claims, scopes, ttl_s=ttl_s, audience=config.api_audience)


def _claims_about(user: User) -> dict[str, Any]:
    return {"sub": str(user.pk), "token_version": user.token_version}


def _sign_access_token(claims: dict[str, Any], scopes: Iterable[str], *, ttl_s: int, audience: Audience) -> str:
    now = int(time.time())
    return sign(
        {
            "iss": config.base_url,
            "aud": audience,
            **claims,
            "iat": now,
            "exp": now + ttl_s,
            "jti": secrets.token_urlsafe(16),
            "scope": " ".join(scopes),
        },
        ACCESS_TOKEN_TYPE,
    )


def sign(claims: dict[str, Any], media_type: str) -> str:
    """``claims`` as a JWT of this type, signed with the key that signs now."""
    key = signing_key()
    return jwt.encode({"alg": key.alg, "typ": media_type, "kid": key.kid}, claims, key, algorithms=ALGORITHMS)


def access_token(request: OAuthRequest) -> str:
    """The access token for a request to the token endpoint that has been found good; the toolkit calls this.

    This is the one place where scopes are issued: here they are narrowed to what the user holds at this moment, or the
    machine was granted. What the user allowed stays in ``granted_scopes``, so that a permission that comes back brings
    its scope back with the next refresh. The audience is likewise narrowed to the resources of this request.

    Raises:
        InvalidTargetError: the request names a resource that was not granted (RFC 8707, section 2).
    """
    audience = audience_of(request)
    if request.grant_type != "refresh_token":
        request.granted_scopes = list(request.scopes or [])
    request.scopes = [scope for scope in request.scopes or [] if scope in request.client.scopes]
    client = {"client_id": request.client.client_id, "client_version": request.client.token_version}
    if request.grant_type == "client_credentials":
        claims = {"sub": request.client.client_id, **client}
    else:
        request.scopes = held_by(request.user, request.scopes)
        claims = {**_claims_about(request.user), **client, "family": str(family_of(request))}
    return _sign_access_token(claims, request.scopes, ttl_s=ACCESS_TOKEN_TTL_S, audience=audience)


def audience_of(request: OAuthRequest) -> Audience:
    """The audience of the token for this request: the resources it names, or else all that were granted.

    ``request.resource`` becomes the granted resources, which the toolkit keeps with the refresh token: a request
    narrows its own access token, and not the log-in (RFC 8707, section 2.2).

    Raises:
        InvalidTargetError: a resource is unknown, or was not granted.
    """
    named = known([value for name, value in request.decoded_body or [] if name == "resource"])
    request.resource = _granted_resources(request)
    if request.grant_type == "client_credentials":
        return as_audience(named)
    # A grant that named no resource is for the API, so its client may still name the API.
    if not set(named) <= set(request.resource or [config.api_resource]):
        raise InvalidTargetError
    return as_audience(named or known(request.resource))


def _granted_resources(request: OAuthRequest) -> list[str]:
    if request.grant_type == "refresh_token":
        granted: list[str] = request.refresh_token_instance.resource
        return granted
    if request.grant_type == DEVICE_CODE:
        return DeviceResources.granted(family_of(request))
    grant = get_grant_model().objects.filter(code=request.code).first() if request.code else None
    return grant.resource if grant else []


def refresh_token(_request: OAuthRequest) -> str:
    """A refresh token: opaque, 256 random bits."""
    return secrets.token_urlsafe(32)


def family_of(request: OAuthRequest) -> uuid.UUID:
    """The family of tokens that one log-in begins, and every refresh goes on with."""
    if request.grant_type == "refresh_token":
        family: uuid.UUID = request.refresh_token_instance.token_family
        return family
    return family_begun_by(request.device_code if request.grant_type == DEVICE_CODE else request.code)


def family_begun_by(code: str) -> uuid.UUID:
    """The family that a code begins: known from the code alone, so that its replay finds what came from it."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"code:{hashlib.sha256(code.encode()).hexdigest()}")


def checksum(token: str) -> str:
    """How a refresh token is found: only its SHA-256 is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def claims_of(token: str, media_type: str) -> dict[str, Any] | None:
    """The claims of a token of this type that we signed, expired or not; None when we did not."""
    try:
        header: object = jws.extract_compact(token.encode()).headers()
        if not isinstance(header, dict):  # joserfc takes any JSON that contains "alg".
            return None
        jwk = public_jwk(str(header.get("kid", "")).replace("\x00", ""))
        if jwk is None or header.get("typ") != media_type:
            return None
        claims = jwt.decode(token, import_key(jwk), algorithms=ALGORITHMS).claims
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    if claims.get("iss") != config.base_url or (media_type == ACCESS_TOKEN_TYPE and not _are_of_their_types(claims)):
        return None
    return claims


def _are_of_their_types(claims: dict[str, Any]) -> bool:
    """Whether an access token's claims have the types that this issuer gives them, so that they can be looked up."""
    texts = [claims.get(name) for name in ("sub", "client_id", "jti", "scope")]
    versions = [claims.get(name, 0) for name in ("token_version", "client_version")]
    return (
        all(isinstance(text, str) and "\x00" not in text for text in texts)
        and all(type(version) is int and 0 <= version <= LARGEST_INTEGER for version in versions)
        and type(claims.get("exp")) in {int, float}
        and ("token_version" not in claims or _is_user_id(claims["sub"]))
        and ("family" not in claims or _is_uuid(claims["family"]))
    )


def _is_user_id(subject: str) -> bool:
    is_number = subject.isascii() and subject.isdecimal() and len(subject) <= len(str(LARGEST_INTEGER))
    return is_number and int(subject) <= LARGEST_INTEGER


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def good_claims(token: str) -> dict[str, Any] | None:
    """The claims of an access token that is good at this moment: ours, not expired, not revoked; else None."""
    claims = claims_of(token, ACCESS_TOKEN_TYPE)
    if claims is None or claims["exp"] <= time.time() or _is_revoked(claims):
        return None
    return claims


def _is_revoked(claims: dict[str, Any]) -> bool:
    events, kinds = RevocationEvent.objects, RevocationEvent.Kind
    if "token_version" in claims:
        user = User.objects.filter(pk=claims["sub"], is_active=True).first()
        if user is None or claims["token_version"] < user.token_version:
            return True
    if "family" in claims and has_ended(claims["family"]):
        return True
    if client_has_ended(claims["client_id"], claims.get("client_version", 0)):
        return True
    return events.filter(kind=kinds.TOKEN, subject=claims["jti"]).exists()
