"""The admin's pages about identity: what was issued can be looked at and ended, never read or changed."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from oauth2_provider.models import get_device_grant_model, get_refresh_token_model

import project.identity.rights  # noqa: F401  It registers the bounds of the rows below.
from project.accounts.models import User
from project.accounts.rights import editor, within
from project.identity import revocation
from project.identity.api_keys import keep, new_key
from project.identity.forms import ApiKeyForm
from project.identity.models import ApiKey, ExternalIdentity, RevocationEvent, SigningKey
from project.identity.secrets import show_once

RefreshToken = get_refresh_token_model()


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows to look at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RevocableAdmin(ReadOnlyAdmin):
    """Rows that staff who may delete them can revoke, which tells every process; deleting a row revokes it first."""

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super(ReadOnlyAdmin, self).has_delete_permission(request, obj)

    def end(self, row: Any) -> None:
        """Revoke what ``row`` stands for: by deleting the row, where no token has come from it yet."""
        type(row).objects.filter(pk=row.pk).delete()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.end(obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.end(row)
        super().delete_queryset(request, queryset)

    @admin.action(description="End the selected ones", permissions=["delete"])
    def end_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.end(row)
            self.log_change(request, row, "Ended.")
        self.message_user(request, "The selected rows were revoked.")

    actions = (end_selected,)


class RefreshTokenAdmin(RevocableAdmin):
    """Log-ins: each refresh token that lives is one, or one tab of one."""

    list_display = ("user", "application", "token_family", "created", "revoked")
    list_filter = ("application", ("revoked", admin.EmptyFieldListFilter))
    list_select_related = ("user", "application")
    search_fields = ("user__email", "application__client_id", "application__name")
    fields = ("user", "application", "token_family", "created", "updated", "revoked")

    def end(self, row: Any) -> None:
        revocation.end_family(row.token_family, reason="ended in the admin")


class AccessTokenAdmin(RevocableAdmin):
    """Access tokens that belong to a log-in; ending one ends the log-in."""

    list_display = ("user", "application", "scope", "created", "expires")
    list_filter = ("application",)
    list_select_related = ("user", "application")
    search_fields = ("user__email", "application__client_id", "application__name")
    fields = ("user", "application", "scope", "created", "expires")

    def end(self, row: Any) -> None:
        log_in = RefreshToken.objects.filter(access_token=row).first()
        if log_in is not None:  # This project keeps none without a log-in; another writer may.
            revocation.end_family(log_in.token_family, reason="ended in the admin")


class GrantAdmin(RevocableAdmin):
    """Authorization codes that wait, for a minute, to be exchanged."""

    list_display = ("user", "application", "scope", "expires")
    list_select_related = ("user", "application")
    search_fields = ("user__email", "application__client_id", "application__name")
    fields = ("user", "application", "redirect_uri", "scope", "created", "expires")


class IdTokenAdmin(ReadOnlyAdmin):
    """Nothing to look at: an ID token proves itself, and none is kept."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(get_device_grant_model())
class DeviceGrantAdmin(RevocableAdmin):
    """Devices that wait to be let in."""

    list_display = ("client_id", "user", "status", "scope", "expires")
    list_filter = ("status",)
    search_fields = ("client_id", "user__email")
    fields = ("client_id", "user", "status", "scope", "interval", "last_checked", "expires")


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyAdmin):
    """The keys that sign. ``manage.py rotate_signing_key`` makes the next one."""

    list_display = ("kid", "algorithm", "created_at", "signs_from", "retires_at")
    fields = ("kid", "algorithm", "public_jwk", "created_at", "signs_from", "retires_at")


@admin.register(RevocationEvent)
class RevocationEventAdmin(ReadOnlyAdmin):
    """What was ended, and why."""

    list_display = ("created_at", "kind", "subject", "version", "reason")
    list_filter = ("kind", "created_at")
    search_fields = ("subject", "reason")
    ordering = ("-id",)


@admin.register(ApiKey)
class ApiKeyAdmin(RevocableAdmin):
    """API keys: made here, shown once, ended here."""

    form = ApiKeyForm
    list_display = ("name", "prefix", "owner", "scopes", "expires_at", "last_used_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    list_select_related = ("owner",)
    search_fields = ("name", "prefix", "owner__email")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("owner",) if editor(request).is_superuser else ()

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Return the owner's field: a superuser makes keys for everybody, anybody else for themselves."""
        if not editor(request).is_superuser:
            kwargs |= {"queryset": User.objects.filter(pk=request.user.pk), "initial": request.user.pk}
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.maker = editor(request)
        return form

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super(ReadOnlyAdmin, self).has_add_permission(request)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        made: list[str] = ["prefix", "created_at", "last_used_at", "revoked_at"] if obj else []
        return ["name", "owner", "scopes", "expires_at", *made]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.shown_once = new_key()
        keep(obj, obj.shown_once)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return show_once(request, self, obj, {"API key": obj.shown_once})

    def end(self, row: ApiKey) -> None:
        revocation.end_api_key(row, reason="ended in the admin")


@admin.register(ExternalIdentity)
class ExternalIdentityAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Which subject of another issuer is which user here."""

    list_display = ("subject", "issuer", "user", "created_at")
    list_filter = ("issuer",)
    list_select_related = ("user",)
    search_fields = ("subject", "issuer", "user__email")
    autocomplete_fields = ("user",)
    readonly_fields: ClassVar = ("created_at",)

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Return the user's field: a linked subject acts as its user, who must be within the editor's rights."""
        kwargs["queryset"] = within(editor(request), User.objects.all())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
