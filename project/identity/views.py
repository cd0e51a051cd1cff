"""The OAuth endpoints below /o/: the toolkit's views, in one transaction each, stricter where they were lenient."""

import json
from datetime import timedelta
from typing import Any, cast
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View
from oauth2_provider import views as toolkit
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.http import OAuth2ResponseRedirect
from oauth2_provider.models import get_device_grant_model, get_refresh_token_model
from oauth2_provider.views.mixins import OAuthLibMixin
from oauthlib.oauth2.rfc6749.errors import AccessDeniedError, InvalidClientIdError, InvalidRequestError
from oauthlib.openid.connect.core.exceptions import ConsentRequired, LoginRequired

from project.accounts.models import User
from project.clients.models import Client
from project.config import config
from project.identity.client_documents import DocumentRefused, ensure_client
from project.identity.lifetimes import REFRESH_TOKEN_TTL_S, SLOW_DOWN_S
from project.identity.models import DeviceResources
from project.identity.resources import InvalidTargetError, known
from project.identity.scopes import DESCRIPTIONS, Scopes, held_by
from project.identity.sessions import remember_family, signed_in_for_s
from project.identity.tokens import DEVICE_CODE, checksum, family_begun_by, good_claims

S256_LENGTH = 43
"""Characters of a SHA-256 in base64url (RFC 7636, section 4.2)."""

JSON_NO_STORE = {"Content-Type": "application/json", "Cache-Control": "no-store"}
"""Of a token response; oauthlib gives an error that it raises after validation no headers of its own."""

DeviceGrant = get_device_grant_model()


def refusal(error: str, description: str, status: int = 400) -> JsonResponse:
    """An error as RFC 6749, section 5.2, has it."""
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    return JsonResponse({"error": error, "error_description": description}, status=status, headers=headers)


class Endpoint(View):
    """Refuses what no database can hold, before it gets there."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        texts = [*request.GET.values(), *request.POST.values()]
        if any("\x00" in text for text in texts):
            return refusal("invalid_request", "A parameter has a NUL character.")
        return super().dispatch(request, *args, **kwargs)


class MachineEndpoint(Endpoint):
    """An endpoint that programs post to, without cookies; its work is one transaction."""

    http_method_names = ["post", "options"]  # noqa: RUF012  Django's attribute.

    @method_decorator(csrf_exempt)  # It knows no session, so there is nothing to forge.
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with transaction.atomic():
            return super().dispatch(request, *args, **kwargs)


class AuthorizationView(Endpoint, toolkit.AuthorizationView):
    """The consent page: what a client may do for the user who is logged in (RFC 6749, section 4.1.1).

    The form sends nothing but the answer: what it is about stays in the address, and is looked at again.
    """

    template_name = "identity/consent.html"

    def validate_authorization_request(self, request: HttpRequest) -> Any:
        if request.user.is_authenticated:  # Nobody else makes this service call an address.
            try:
                ensure_client(request, request.GET.get("client_id", ""))
            except DocumentRefused as refused:
                raise FatalClientError(error=InvalidClientIdError(str(refused))) from None
        scopes, credentials = super().validate_authorization_request(request)
        method, challenge = credentials.get("code_challenge_method"), credentials.get("code_challenge") or ""
        if method != "S256" or len(challenge) != S256_LENGTH:
            self._refuse(InvalidRequestError, credentials, "Send a code_challenge, and S256 as its method.")
        if request.GET.get("response_mode", "query") != "query":
            self._refuse(InvalidRequestError, credentials, "The only response_mode is query.")
        if not request.GET.get("max_age", "0").isdecimal():
            self._refuse(InvalidRequestError, credentials, "max_age is a number of seconds.")
        try:
            credentials["resource"] = known(request.GET.getlist("resource"))
        except InvalidTargetError as error:
            self._refuse(InvalidTargetError, credentials, error.description)
        return scopes, credentials

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        prompts = request.GET.get("prompt", "").split()
        if "create" in prompts:
            return cast("HttpResponseBase", super().get(request, *args, **kwargs))
        if "none" not in prompts and ("login" in prompts or self._signed_in_too_long_ago(request)):
            return self._ask_to_sign_in(request)
        try:
            scopes, credentials = self.validate_authorization_request(request)
            offered = self._offered(scopes, credentials)
            if "none" in prompts:
                asked = LoginRequired if self._signed_in_too_long_ago(request) else ConsentRequired
                self._refuse(asked, credentials, "The user has to be asked.")
        except OAuthToolkitError as error:
            return cast("HttpResponseBase", self.error_response(error, application=None))
        return self.render_to_response(self._page(offered, credentials))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            scopes, credentials = self.validate_authorization_request(request)
            offered = self._offered(scopes, credentials)
            if isinstance(credentials.get("ui_locales"), list):
                credentials["ui_locales"] = " ".join(credentials["ui_locales"])
            uri, _headers, _body, _status = self.create_authorization_response(
                request=request,
                scopes=" ".join(offered),
                credentials=credentials,
                allow=request.POST.get("decision") == "allow",
            )
        except OAuthToolkitError as error:
            return cast("HttpResponseBase", self.error_response(error, application=None))
        return self.redirect(uri, application=None)

    def create_authorization_response(self, request: HttpRequest, scopes: str, credentials: Any, allow: bool) -> Any:
        answer = super().create_authorization_response(request, scopes, credentials, allow)
        if code := self._code_in(answer[0]):
            remember_family(request, family_begun_by(code))
        return answer

    def redirect(self, redirect_to: str, application: Client | None) -> HttpResponse:
        """Answer the client, errors included, with who answers (RFC 9207)."""
        parts = urlsplit(redirect_to)
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "iss"]
        redirect_to = urlunsplit(parts._replace(query=urlencode([*query, ("iss", config.base_url)])))
        # The address has been found among the client's own.
        return cast("HttpResponse", OAuth2ResponseRedirect(redirect_to, ["https", "http"]))

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().render_to_response(context, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    def _signed_in_too_long_ago(self, request: HttpRequest) -> bool:
        """Whether the client wants a fresher sign-in (OpenID Connect Core 1.0, section 3.1.2.1)."""
        max_age = request.GET.get("max_age", "")
        return max_age.isdecimal() and signed_in_for_s(request) > float(max_age)

    def _ask_to_sign_in(self, request: HttpRequest) -> HttpResponse:
        """Lead through the log-in page, and back to here without what has led there."""
        query = request.GET.copy()
        for asked in ("prompt", "max_age"):
            query.pop(asked, None)
        return redirect_to_login(f"{request.path}?{query.urlencode()}", self.get_login_url())

    def _offered(self, scopes: list[str], credentials: dict[str, Any]) -> list[str]:
        """The scopes to ask the user about: those they hold themselves."""
        offered = held_by(cast("User", self.request.user), scopes)  # The mixin let nobody else through.
        if scopes and not offered:
            self._refuse(AccessDeniedError, credentials, "The user holds no permission that these scopes need.")
        return offered

    def _refuse(self, error: Any, credentials: dict[str, Any], description: str) -> None:
        raise OAuthToolkitError(
            error(description, state=credentials.get("state")), redirect_uri=credentials["redirect_uri"]
        )

    def _page(self, offered: list[str], credentials: dict[str, Any]) -> dict[str, Any]:
        client = Client.objects.get(client_id=credentials["client_id"])
        return {
            "client": client,
            "descriptions": [DESCRIPTIONS[scope] for scope in offered],
            "resources": credentials["resource"],
            "redirect_host": urlsplit(credentials["redirect_uri"]).netloc,
        }

    def _code_in(self, uri: str | None) -> str:
        return parse_qs(urlsplit(uri or "").query).get("code", [""])[0]


class TokenView(MachineEndpoint, toolkit.TokenView):
    """Exchanges codes, refresh tokens, device codes and clients' secrets for tokens (RFC 6749, section 3.2).

    An answer of refusal commits too: it may have ended a family whose code or refresh token came twice.
    """

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.POST.get("grant_type") == DEVICE_CODE:
            return self._poll(request, request.POST.get("device_code", ""))
        return self._exchange(request)

    def _exchange(self, request: HttpRequest) -> HttpResponse:
        _uri, headers, body, status = self.create_token_response(request)
        return HttpResponse(body, status=status, headers={**JSON_NO_STORE, **headers})

    def _poll(self, request: HttpRequest, device_code: str) -> HttpResponseBase:
        """RFC 8628, section 3.5. The code is gone once a token was given for it, or the user has refused."""
        grant = DeviceGrant.objects.select_for_update().filter(device_code=device_code).first()
        now = timezone.now()
        if grant is None:
            return refusal("invalid_grant", "This device code is unknown, or has been used.")
        if now >= grant.expires:
            return refusal("expired_token", "This device code has expired.")
        too_soon = now < grant.last_checked + timedelta(seconds=grant.interval)
        interval = grant.interval + (SLOW_DOWN_S if too_soon else 0)
        DeviceGrant.objects.filter(pk=grant.pk).update(last_checked=now, interval=interval)
        if too_soon:
            return refusal("slow_down", f"Ask every {interval} seconds.")
        if grant.status == DeviceGrant.AUTHORIZATION_PENDING:
            return refusal("authorization_pending", "The user has not answered yet.")
        if grant.status != DeviceGrant.AUTHORIZED or not grant.user.is_active:
            return refusal("access_denied", "The user has refused.")
        answer = self._exchange(request)
        if answer.status_code == 200:  # noqa: PLR2004
            grant.delete()
        return answer


class RevocationView(MachineEndpoint, toolkit.RevokeTokenView):
    """Ends a token, for the client that it was issued to (RFC 7009)."""


class IntrospectionView(MachineEndpoint, OAuthLibMixin):
    """Whether a token is good at this moment, for clients that may ask (RFC 7662)."""

    def post(self, request: HttpRequest) -> HttpResponseBase:
        client = self.get_oauthlib_core().authenticated_client(request)
        if client is None:
            answer = refusal("invalid_client", "Show the client's id and secret.", 401)
            answer["WWW-Authenticate"] = 'Basic realm="tandem"'
            return answer
        if not client.may_introspect:
            return refusal("unauthorized_client", "This client may not ask about tokens.", 403)
        if not (token := request.POST.get("token")):
            return refusal("invalid_request", "Give the token to ask about.")
        return JsonResponse(_described(token), headers={"Cache-Control": "no-store"})


def _described(token: str) -> dict[str, Any]:
    if claims := good_claims(token):
        return {"active": True, "token_type": "Bearer", **claims}
    found = (
        get_refresh_token_model()
        .objects.select_related("access_token", "application", "user")
        .filter(token_checksum=checksum(token), revoked=None, access_token__isnull=False, user__is_active=True)
        .first()
    )
    if found is None:
        return {"active": False}
    over = found.access_token.expires + timedelta(seconds=REFRESH_TOKEN_TTL_S)
    if over <= timezone.now():
        return {"active": False}
    return {
        "active": True,
        "client_id": found.application.client_id,
        "sub": str(found.user_id),
        "scope": found.access_token.scope,
        "exp": int(over.timestamp()),
        "iss": config.base_url,
    }


class UserInfoView(Endpoint, toolkit.UserInfoView):
    """Who the user of an access token is (OpenID Connect Core 1.0, section 5.3)."""

    @method_decorator(csrf_exempt)  # It knows no session, so there is nothing to forge.
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if "access_token" in request.GET:
            return refusal("invalid_request", "An address is no place for a token (RFC 9700, section 4.3.2).")
        return super().dispatch(request, *args, **kwargs)


class DeviceAuthorizationView(MachineEndpoint, toolkit.DeviceAuthorizationView):
    """Begins the log-in of a device: a code for it, and one for its user to type (RFC 8628, section 3.1)."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.content_type != "application/x-www-form-urlencoded":
            return refusal("invalid_request", "Send application/x-www-form-urlencoded.")
        headers, answer, status = self.create_device_authorization_response(request)
        if status != 200:  # noqa: PLR2004
            return JsonResponse(json.loads(answer), status=status, headers=headers)
        client = Client.objects.get(client_id=request.POST["client_id"])
        if client.authorization_grant_type != Client.GRANT_DEVICE_CODE:
            return refusal("unauthorized_client", "This client may not use device codes.")
        allowed = Scopes().get_available_scopes(client)
        scopes = request.POST.get("scope", "").split() or allowed
        if not set(scopes) <= set(allowed):
            return refusal("invalid_scope", "This client may not ask for one of these scopes.")
        try:
            resources = known(request.POST.getlist("resource"))
        except InvalidTargetError as error:
            return refusal(error.error, error.description)
        if resources:
            DeviceResources.objects.create(family=family_begun_by(answer["device_code"]), resources=resources)
        grant = DeviceGrant.objects.create(
            client_id=client.client_id,
            device_code=answer["device_code"],
            user_code=answer["user_code"],
            scope=" ".join(scopes),
            interval=answer["interval"],
            expires=timezone.now() + timedelta(seconds=answer["expires_in"]),
        )
        # The interval is between two questions: the first may come at once.
        asked = timezone.now() - timedelta(seconds=grant.interval)
        DeviceGrant.objects.filter(pk=grant.pk).update(last_checked=asked)
        return JsonResponse(answer, headers={"Cache-Control": "no-store", **headers})
