"""The pages that people see: signing in and out, and letting a device in. Consent is in ``views``."""

from typing import Any, cast

from django import forms
from django.contrib.auth import logout
from django.contrib.auth import views as django_views
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import View
from oauth2_provider.exceptions import (
    InvalidIDTokenError,
    InvalidOIDCClientError,
    InvalidOIDCRedirectURIError,
    OIDCError,
)
from oauth2_provider.models import get_device_grant_model
from oauth2_provider.views import RPInitiatedLogoutView

from project.accounts.fields import TYPED_AS_AN_ADDRESS
from project.accounts.models import User
from project.addresses import LONGEST
from project.clients.models import Client
from project.identity.models import DeviceResources
from project.identity.parameters import LOGOUT, repeated, with_parameters
from project.identity.revocation import end_family
from project.identity.scopes import DESCRIPTIONS, held_by
from project.identity.sessions import begin_family
from project.identity.tokens import ID_TOKEN_TYPE, claims_of, family_begun_by
from project.identity.user_codes import as_issued
from project.identity.views import Endpoint, RequestOrForm, refusal, sent_to

DeviceGrant = get_device_grant_model()


class LoginForm(AuthenticationForm):
    """Django's form. It says the same, after the same time, of a wrong password and of an address nobody has."""

    error_messages = {  # noqa: RUF012  Django's attribute.
        **AuthenticationForm.error_messages,
        "invalid_login": "This e-mail address and password do not belong together.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attrs = {"autocomplete": "username", "autofocus": True, "maxlength": LONGEST} | TYPED_AS_AN_ADDRESS
        self.fields["username"].widget = forms.TextInput(attrs=attrs)


class LoginView(Endpoint, django_views.LoginView):
    """Signs in. ``next`` leads to this site only; the session gets a new key (Django sees to both)."""

    template_name = "identity/login.html"
    authentication_form = LoginForm


@method_decorator(never_cache, name="dispatch")
class LogoutView(View):
    """Signs out, once asked whether to: what this browser has let in is signed out with it."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "identity/logout.html")

    def post(self, request: HttpRequest) -> HttpResponseBase:
        return django_views.LogoutView.as_view(template_name="identity/signed_out.html")(request)


class ClientLogoutView(RequestOrForm, RPInitiatedLogoutView):
    """Signs out because a client asks for it (OpenID Connect RP-Initiated Logout 1.0).

    The user is asked first, and afterwards sent only to an address that the client has registered.
    """

    template_name = "identity/logout.html"
    decision = "allow"

    def read(self, request: HttpRequest) -> HttpResponse | None:
        if names := [*repeated(LOGOUT, request.GET), *repeated(LOGOUT, request.POST)]:
            return refusal("invalid_request", f"Sent more than once: {', '.join(names)}.")
        return super().read(request)

    def validate_post_logout_redirect_uri(
        self, application: Client | None, post_logout_redirect_uri: str | None
    ) -> None:
        """Refuse an address that is not, letter for letter, a registered one.

        Raises:
            InvalidOIDCClientError: nobody knows whose address it would be.
            InvalidOIDCRedirectURIError: the client has not registered it.
        """
        if not post_logout_redirect_uri:
            return
        if application is None:
            raise InvalidOIDCClientError
        if not application.post_logout_redirect_uri_allowed(post_logout_redirect_uri):
            raise InvalidOIDCRedirectURIError("This client does not have this redirect uri registered.")

    def get_request_application(self, id_token: Any, client_id: str | None) -> Client | None:
        if client_id:
            return Client.objects.filter(client_id=client_id).first()
        return cast("Client", id_token.application) if id_token else None

    def validate_logout_request_user(self, id_token_hint: str | None, client_id: str | None) -> "IdTokenHint | None":
        """Whom, and which client, an ID token of ours was for; it may have expired.

        Raises:
            InvalidIDTokenError: it is not ours, or was for another client.
        """
        if not id_token_hint:
            return None
        claims = claims_of(id_token_hint, ID_TOKEN_TYPE)
        client = Client.objects.filter(client_id=claims["aud"]).first() if claims else None
        if claims is None or client is None or client_id not in {None, "", client.client_id}:
            raise InvalidIDTokenError
        return IdTokenHint(client, User.objects.filter(pk=claims["sub"]).first(), claims["sid"])

    def do_logout(
        self,
        application: Client | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        token_user: User | None = None,
    ) -> HttpResponse:
        given = self.request.POST.get("id_token_hint") or self.request.GET.get("id_token_hint")
        hint = self.validate_logout_request_user(given, None)
        if hint is not None:
            end_family(hint.family, reason="logged out by the client")
        logout(self.request)
        if not post_logout_redirect_uri or application is None:
            return render(self.request, "identity/signed_out.html")
        return sent_to(with_parameters(post_logout_redirect_uri, {"state": state} if state else {}))

    def error_response(self, error: OIDCError) -> HttpResponseBase:
        if error.error == "logout_denied":
            return redirect("home")
        answer: HttpResponseBase = super().error_response(error)
        return answer


class IdTokenHint:
    """What an ID token tells of the log-in that it came from."""

    def __init__(self, application: Client, user: User | None, family: str) -> None:
        self.application = application
        self.user = user
        self.family = family


@method_decorator(never_cache, name="dispatch")
class DeviceView(LoginRequiredMixin, Endpoint):
    """Lets a device in: the code that it shows, what it may do, the answer (RFC 8628, section 3.3).

    A link may bring the code along, but the user still has to look at it and send it (section 5.4).
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._ask_for_code(request, request.GET.get("user_code", ""))

    def post(self, request: HttpRequest) -> HttpResponse:
        typed = request.POST.get("user_code", "")
        code = as_issued(typed)
        decision = request.POST.get("decision")
        with transaction.atomic():
            pending = DeviceGrant.objects.filter(user_code=code, status=DeviceGrant.AUTHORIZATION_PENDING)
            grant = pending.select_for_update().first()
            client = Client.objects.filter(client_id=grant.client_id, is_active=True).first() if grant else None
            if grant is None or client is None or grant.expires <= timezone.now():
                return self._ask_for_code(request, typed, "This code is not known, or has expired. Look at it again.")
            offered = held_by(self._user, grant.scope.split())
            if decision not in {"allow", "deny"}:
                resources = DeviceResources.granted(family_begun_by(grant.device_code))
                return self._ask_for_consent(
                    request, {"client": client, "user_code": code, "resources": resources}, offered
                )
            grant.user = self._user
            grant.scope = " ".join(offered)
            grant.status = DeviceGrant.AUTHORIZED if decision == "allow" else DeviceGrant.DENIED
            grant.save(update_fields=["user", "scope", "status"])
            if decision == "allow":
                begin_family(request, family_begun_by(grant.device_code))
        return render(request, "identity/device_done.html", {"client": client, "allowed": decision == "allow"})

    @property
    def _user(self) -> User:
        return cast("User", self.request.user)  # The mixin let nobody else through.

    def _ask_for_code(self, request: HttpRequest, code: str, fault: str = "") -> HttpResponse:
        page = {"user_code": code, "fault": fault}
        return render(request, "identity/device.html", page, status=400 if fault else 200)

    def _ask_for_consent(self, request: HttpRequest, page: dict[str, Any], offered: list[str]) -> HttpResponse:
        descriptions = [DESCRIPTIONS[scope] for scope in offered]
        return render(request, "identity/consent.html", {**page, "descriptions": descriptions})
