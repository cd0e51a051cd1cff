"""The admin's pages about OAuth clients. A secret is shown once, on the page after it was made; its hash is kept."""

from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import get_random_string

from project.accounts.models import User
from project.accounts.rights import editor
from project.clients.models import GRANT_TYPES, Client
from project.identity import revocation
from project.identity.forms import ScopesField
from project.identity.scopes import DESCRIPTIONS, held_by
from project.identity.secrets import show_once

SECRET_LENGTH = 43
"""Letters and digits: 256 bits."""


class ClientForm(forms.ModelForm):  # type: ignore[type-arg]
    """A client, without what is made for it. Its editor grants what they hold themselves."""

    editor: User
    """The admin sets it on the class that it makes for each request."""

    authorization_grant_type = forms.ChoiceField(label="How it gets tokens", choices=list(GRANT_TYPES.items()))
    allowed_scopes = ScopesField(
        DESCRIPTIONS,
        required=False,
        help_text="One that acts for people may ask for these, and gets what its user holds; a machine gets them.",
    )

    class Meta:
        model = Client
        fields: ClassVar = [
            "name",
            "is_active",
            "client_type",
            "authorization_grant_type",
            "redirect_uris",
            "post_logout_redirect_uris",
            "allowed_origins",
            "allowed_scopes",
            "may_introspect",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("ScopesField", self.fields["allowed_scopes"]).offer(held_by(self.editor, DESCRIPTIONS))


class ClientAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Clients: made, changed, stopped, and given a new secret."""

    form = ClientForm
    list_display = (
        "name",
        "client_id",
        "client_type",
        "authorization_grant_type",
        "is_active",
        "registration_source",
        "origin",
        "created",
    )
    list_filter = ("is_active", "client_type", "authorization_grant_type", "may_introspect", "registration_source")
    search_fields = ("name", "client_id")
    actions = ("make_new_secret", "end_tokens")
    view_on_site = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("client_id", "registration_source", "origin", "created", "updated") if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.editor = editor(request)
        return form

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "may_introspect":
            field.disabled = not editor(request).is_superuser  # A disabled field keeps its value, whatever is posted.
        return field

    def save_model(self, request: HttpRequest, obj: Client, form: Any, change: bool) -> None:
        if not change:
            obj.shown_once = obj.client_secret = get_random_string(SECRET_LENGTH)  # Saving replaces it by its hash.
        super().save_model(request, obj, form, change)
        if change and "is_active" in form.changed_data and not obj.is_active:
            revocation.end_client(obj, reason="the client was stopped", with_log_ins=True)

    def response_add(self, request: HttpRequest, obj: Client, post_url_continue: str | None = None) -> HttpResponse:
        if obj.client_type == Client.CLIENT_PUBLIC:
            return super().response_add(request, obj, post_url_continue)
        return self._show_secret(request, obj, obj.shown_once)

    def delete_model(self, request: HttpRequest, obj: Client) -> None:
        revocation.end_client(obj, reason="the client was deleted", with_log_ins=True)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        for client in queryset:
            self.delete_model(request, client)

    @admin.action(description="Make a new secret for the selected client", permissions=["change"])
    def make_new_secret(self, request: HttpRequest, queryset: QuerySet[Client]) -> HttpResponse | None:
        client = queryset.filter(client_type=Client.CLIENT_CONFIDENTIAL).first()
        if client is None or queryset.count() != 1:
            self.message_user(request, "Select one confidential client.", messages.ERROR)
            return None
        client.client_secret = secret = get_random_string(SECRET_LENGTH)
        client.save()
        self.log_change(request, client, "Made a new secret.")
        return self._show_secret(request, client, secret)

    @admin.action(description="End all tokens of the selected clients", permissions=["change"])
    def end_tokens(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        for client in queryset:
            revocation.end_client(client, reason="ended in the admin", with_log_ins=True)
            self.log_change(request, client, "Ended all tokens.")
        self.message_user(request, "The tokens of the selected clients were revoked.")

    def _show_secret(self, request: HttpRequest, client: Client, secret: str) -> HttpResponse:
        return show_once(request, self, client, {"Client id": client.client_id, "Client secret": secret})
