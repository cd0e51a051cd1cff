"""What clients and verifiers read to find their way: discovery and the public keys, for everybody, cookies or not."""

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, JsonResponse
from django.urls import path, reverse
from django.views.decorators.http import require_safe

from project.config import config
from project.identity.keys import published
from project.identity.lifetimes import JWKS_TTL_S
from project.identity.parameters import PROMPTS
from project.identity.scopes import DESCRIPTIONS
from project.identity.sessions import ACR_OF
from project.identity.tokens import ALGORITHMS, DEVICE_CODE
from project.scopes import SCOPES

PUBLIC = {"Access-Control-Allow-Origin": "*", "Cache-Control": f"public, max-age={JWKS_TTL_S}"}
AUTHENTICATION = ["client_secret_basic", "client_secret_post", "none"]


@require_safe
def jwks(_request: HttpRequest) -> JsonResponse:
    """The public keys as a JWK Set (RFC 7517, section 5)."""
    return JsonResponse({"keys": published()}, headers=PUBLIC)


@require_safe
def discovery(_request: HttpRequest, path: str | None = None) -> JsonResponse:
    """OpenID Connect Discovery 1.0, section 3, and RFC 8414, section 2, in one document.

    RFC 8414, section 3.1, puts the path of BASE_URL after the well-known part, for a proxy that forwards it.
    """
    if path is not None and f"/{path}" != urlsplit(config.base_url).path:
        return JsonResponse({"error": "not_found"}, status=404, headers=PUBLIC)
    return JsonResponse(document(), headers=PUBLIC)


def document() -> dict[str, Any]:
    """The issuer, its endpoints and what they take."""

    def at(name: str, namespace: str = "identity") -> str:
        return config.base_url + reverse(f"{namespace}:{name}")

    return {
        "issuer": config.base_url,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "revocation_endpoint": at("revoke"),
        "introspection_endpoint": at("introspect"),
        "device_authorization_endpoint": at("device-authorization"),
        "userinfo_endpoint": at("userinfo"),
        "end_session_endpoint": at("logout"),
        "jwks_uri": at("jwks", "well-known"),
        "scopes_supported": list(DESCRIPTIONS),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", DEVICE_CODE],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": AUTHENTICATION,
        "revocation_endpoint_auth_methods_supported": AUTHENTICATION,
        "introspection_endpoint_auth_methods_supported": AUTHENTICATION[:2],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ALGORITHMS,
        "prompt_values_supported": PROMPTS,
        "acr_values_supported": sorted(set(ACR_OF.values())),
        "claims_supported": [
            *("iss", "aud", "sub", "iat", "exp", "nonce", "at_hash", "auth_time", "amr", "acr", "sid"),
            *("name", "email"),
        ],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        **({"registration_endpoint": at("register")} if config.client_registration else {}),
        **({"client_id_metadata_document_supported": True} if config.client_metadata_documents else {}),
    }


@require_safe
def protected_resource(_request: HttpRequest, path: str = "api") -> JsonResponse:
    """The metadata of the resource at ``path`` below BASE_URL (RFC 9728, section 3).

    The standard puts the whole path of the resource after the well-known part, which includes the path of BASE_URL, if
    it has one. That form is answered as well, for a proxy that forwards it.
    """
    origin = config.base_url.removesuffix(urlsplit(config.base_url).path)
    resource = next(
        (f"{base}/{path}" for base in (config.base_url, origin) if f"{base}/{path}" in config.resources), ""
    )
    if not resource:
        return JsonResponse({"error": "not_found"}, status=404, headers=PUBLIC)
    metadata = {
        "resource": resource,
        "authorization_servers": [config.base_url],
        "bearer_methods_supported": ["header"],
    }
    if resource == config.api_resource:
        metadata |= {
            "authorization_servers": [config.base_url, *(trusted.issuer for trusted in config.trusted_issuers)],
            "scopes_supported": list(SCOPES),
            "resource_name": "Tandem API",
        }
    return JsonResponse(metadata, headers=PUBLIC)


app_name = "well-known"

urlpatterns = [
    path("jwks.json", jwks, name="jwks"),
    path("openid-configuration", discovery, name="openid-configuration"),
    path("oauth-authorization-server", discovery, name="oauth-authorization-server"),
    path("oauth-authorization-server/<path:path>", discovery, name="oauth-authorization-server-of"),
    path("oauth-protected-resource", protected_resource, name="oauth-protected-resource"),
    path("oauth-protected-resource/<path:path>", protected_resource, name="oauth-protected-resource-of"),
]
"""Below ``/.well-known`` (RFC 8615)."""
