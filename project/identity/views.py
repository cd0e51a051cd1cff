"""The OAuth endpoints below /o/: the toolkit's views, in one transaction each, stricter where they were lenient."""

import json
from datetime import timedelta
from typing import Any, NoReturn, cast
from urllib.parse import parse_qs, urlencode, urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import DisallowedRedirect
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.encoding import iri_to_uri
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.generic import View
from oauth2_provider import views as toolkit
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.models import get_device_grant_model, get_refresh_token_model
from oauth2_provider.views.mixins import OAuthLibMixin
from oauthlib.oauth2.rfc6749.errors import AccessDeniedError, InvalidClientIdError, InvalidScopeError, OAuth2Error
from oauthlib.openid.connect.core.exceptions import ConsentRequired, LoginRequired

from project.accounts.models import User
from project.clients.models import Client
from project.config import config
from project.identity import parameters
from project.identity.authorization_request import fault, max_age_s, prompts
from project.identity.client_documents import DocumentRefused, ensure_client
from project.identity.lifetimes import REFRESH_TOKEN_TTL_S, SLOW_DOWN_S
from project.identity.models import DeviceResources
from project.identity.resources import InvalidTargetError, known
from project.identity.scopes import DESCRIPTIONS, Scopes, held_by, understood
from project.identity.sessions import begin_family, remember_family, signed_in_for_s
from project.identity.tokens import DEVICE_CODE, ID_TOKEN_TYPE, checksum, claims_of, family_begun_by, good_claims

CHALLENGE = 'Basic realm="clients", charset="UTF-8"'
"""What a client hears that did not show its secret (RFC 6749, section 5.2; RFC 7617)."""

JSON_NO_STORE = {"Content-Type": "application/json", "Cache-Control": "no-store"}
"""Of a token response; oauthlib gives an error that it raises after validation no headers of its own."""

DeviceGrant = get_device_grant_model()


def refusal(error: str, description: str, status: int = 400) -> JsonResponse:
    """An error as RFC 6749, section 5.2, has it."""
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    return JsonResponse({"error": error, "error_description": description}, status=status, headers=headers)


def sent_to(address: str) -> HttpResponse:
    """A redirect to an address of a client's own, which stays byte for byte as it was registered."""
    response = HttpResponse(status=302)
    response["Location"] = address if address.isascii() else iri_to_uri(address)
    return response


class Endpoint(View):
    """Refuses what no database can hold, before it gets there. An empty parameter counts as omitted."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if description := parameters.unreadable(request):
            return refusal("invalid_request", description)
        parameters.omit_empty(request)
        try:
            return self.read(request) or super().dispatch(request, *args, **kwargs)
        except DisallowedRedirect:  # Django bounds the address of a redirect, which carries the request along.
            return refusal("invalid_request", "The parameters are too long.")

    def read(self, request: HttpRequest) -> HttpResponse | None:
        """Returns the answer to a request that cannot be understood; None when it can."""
        return None


class RequestOrForm(Endpoint):
    """An endpoint where a client may send its request by POST too, which another site's page does.

    Only our own form decides anything, and only with its CSRF token. Any other POST leads to the GET with the same
    parameters: there the browser shows its session, whose cookie it keeps back from another site's POST (SameSite).
    """

    decision = ""
    """The name of the form's button."""

    @method_decorator(csrf_exempt)  # What our form sends is checked here.
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer = csrf_protect(super().dispatch) if self._is_form(request) else super().dispatch
        return answer(request, *args, **kwargs)

    def read(self, request: HttpRequest) -> HttpResponse | None:
        if request.method != "POST" or self._is_form(request):
            return None
        sent = [*parameters.only(parameters.KNOWN, request.GET), *parameters.only(parameters.KNOWN, request.POST)]
        return HttpResponseRedirect(f"{request.path}?{urlencode(sent)}", status=303)

    def _is_form(self, request: HttpRequest) -> bool:
        return bool({self.decision, "csrfmiddlewaretoken"} & request.POST.keys())


class MachineEndpoint(Endpoint):
    """An endpoint that programs post to, without cookies; its work is one transaction.

    Clients show their secret by either way of RFC 6749, section 2.3.1, but not by both.
    """

    http_method_names = ["post", "options"]  # noqa: RUF012  Django's attribute.

    @method_decorator(csrf_exempt)  # It knows no session, so there is nothing to forge.
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with transaction.atomic():
            response = super().dispatch(request, *args, **kwargs)
        if response.status_code == 401:  # noqa: PLR2004
            response["WWW-Authenticate"] = CHALLENGE
        return response

    def read(self, request: HttpRequest) -> HttpResponse | None:
        if request.method != "POST":
            return None
        if request.GET:
            return refusal("invalid_request", "Send parameters in the body only (RFC 6749, section 3.2).")
        if names := parameters.repeated(parameters.TOKEN, request.POST):
            return refusal("invalid_request", f"Sent more than once: {', '.join(names)}.")
        try:
            parameters.move_credentials_into_body(request)
        except parameters.BadCredentialsError:
            return refusal("invalid_client", "The Authorization header holds no client id and secret.", 401)
        except parameters.TwoMethodsError:
            return refusal("invalid_request", "Show the client's secret in one way only.")
        return None


class AuthorizationView(RequestOrForm, toolkit.AuthorizationView):
    """The consent page: what a client may do for the user who is logged in (RFC 6749, section 4.1.1).

    The form sends nothing but the answer: what it is about stays in the address, and is looked at again.
    """

    template_name = "identity/consent.html"
    decision = "decision"

    def validate_authorization_request(self, request: HttpRequest) -> Any:
        if request.user.is_authenticated:  # Nobody else makes this service call an address.
            try:
                ensure_client(request, request.GET.get("client_id", ""))
            except DocumentRefused as refused:
                raise FatalClientError(error=InvalidClientIdError(str(refused))) from None
        scopes, credentials = super().validate_authorization_request(request)
        if error := fault(request.GET):
            self._refuse(error, credentials)
        try:
            credentials["resource"] = known(request.GET.getlist("resource"))
        except InvalidTargetError as error:
            self._refuse(error, credentials)
        return scopes, credentials

    def handle_no_permission(self) -> HttpResponseBase:
        """Answer when nobody is signed in. Any error waits until somebody is (RFC 9700, section 4.11.2)."""
        if "none" not in prompts(self.request.GET):
            return self._ask_to_sign_in(self.request)
        try:
            _scopes, credentials = self.validate_authorization_request(self.request)
            self._refuse(LoginRequired("The user has to sign in."), credentials)
        except OAuthToolkitError as error:
            return cast("HttpResponseBase", self.error_response(error, application=None))

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        asked = prompts(request.GET)
        if "none" not in asked and (asked & {"login", "select_account"} or self._signed_in_too_long_ago(request)):
            return self._ask_to_sign_in(request)
        try:
            scopes, credentials = self.validate_authorization_request(request)
            self._check_user(credentials)
            offered = self._offered(scopes, credentials)
            if "none" in asked:
                required = LoginRequired if self._signed_in_too_long_ago(request) else ConsentRequired
                self._refuse(required("The user has to be asked."), credentials)
        except OAuthToolkitError as error:
            return cast("HttpResponseBase", self.error_response(error, application=None))
        return self.render_to_response(self._page(offered, credentials))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            scopes, credentials = self.validate_authorization_request(request)
            self._check_user(credentials)
            offered = self._offered(scopes, credentials)
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
        with transaction.atomic():
            answer = super().create_authorization_response(request, scopes, credentials, allow)
            if code := self._code_in(answer[0]):
                begin_family(request, family_begun_by(code))
                remember_family(request, family_begun_by(code))
        return answer

    def redirect(self, redirect_to: str, application: Client | None) -> HttpResponse:
        """Answer the client, errors included, with who answers (RFC 9207)."""
        return sent_to(parameters.with_parameters(redirect_to, {"iss": config.base_url}))

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().render_to_response(context, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    def _signed_in_too_long_ago(self, request: HttpRequest) -> bool:
        """Whether the client wants a fresher sign-in (OpenID Connect Core 1.0, section 3.1.2.1)."""
        max_age = max_age_s(request.GET)
        return max_age is not None and signed_in_for_s(request) > max_age

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
            self._refuse(AccessDeniedError("The user holds no permission that these scopes need."), credentials)
        return offered

    def _check_user(self, credentials: dict[str, Any]) -> None:
        """Refuse a request that is about another user than the one who is signed in (section 3.1.2.2)."""
        hint = self.request.GET.get("id_token_hint")
        claims = claims_of(hint, ID_TOKEN_TYPE) if hint else None
        if claims and claims["sub"] != str(self.request.user.pk):
            self._refuse(LoginRequired("Another user is signed in."), credentials)

    def _refuse(self, error: OAuth2Error, credentials: dict[str, Any]) -> NoReturn:
        error.state = credentials.get("state")
        raise OAuthToolkitError(error, redirect_uri=credentials["redirect_uri"])

    def _page(self, offered: list[str], credentials: dict[str, Any]) -> dict[str, Any]:
        client = Client.objects.get(client_id=credentials["client_id"])
        return {
            "client": client,
            "descriptions": [DESCRIPTIONS[scope] for scope in offered],
            "resources": credentials["resource"],
            "redirect_host": urlsplit(credentials["redirect_uri"]).netloc,
        }

    def _code_in(self, uri: str) -> str:
        return parse_qs(urlsplit(uri).query).get("code", [""])[-1]


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
            return refusal("invalid_client", "Send the client's id and secret.", 401)
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
            told = json.loads(answer)
            if told.get("error_description") == InvalidClientIdError.description:
                return refusal("invalid_client", "There is no such client.", 401)
            return JsonResponse(told, status=status, headers=headers)
        client = Client.objects.get(client_id=request.POST["client_id"])
        if client.authorization_grant_type != Client.GRANT_DEVICE_CODE:
            return refusal("unauthorized_client", "This client may not use device codes.")
        try:
            scopes, resources = self._scopes(request, client), known(request.POST.getlist("resource"))
        except OAuth2Error as error:
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

    def _scopes(self, request: HttpRequest, client: Client) -> list[str]:
        allowed = Scopes().get_available_scopes(client)
        scopes = understood(request.POST["scope"].split()) if "scope" in request.POST else allowed
        if not scopes or not set(scopes) <= set(allowed):
            raise InvalidScopeError("This client may not ask for one of these scopes.")
        return scopes
