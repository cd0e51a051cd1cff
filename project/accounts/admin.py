"""The admin's pages about people. ``project.accounts.rights`` decides which accounts a staff member may change."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from project.accounts.fields import LowerCaseEmailField
from project.accounts.models import User
from project.accounts.rights import editor

RIGHTS = ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")


class UserForm(UserChangeForm):  # type: ignore[type-arg]
    """An account without its password, of which Django's own form shows a part of the hash."""

    password = None  # type: ignore[assignment]  # Django's way to remove an inherited field.


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    """Django's own user pages (password change, permissions, groups), by e-mail address."""

    form = UserForm
    ordering = ("email",)
    # Django's widget of an e-mail field is an <input type="email">, which rewrites international addresses.
    formfield_overrides: ClassVar = {LowerCaseEmailField: {"widget": AdminTextInputWidget}}
    list_display = ("address", "display_name", "is_active", "is_staff", "created_at", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups", "created_at")
    search_fields = ("email", "display_name")
    readonly_fields = ("password_state", "created_at", "updated_at", "last_login")
    fieldsets = (
        (None, {"fields": ("email", "password_state", "display_name")}),
        ("Permissions", {"fields": RIGHTS}),
        ("Dates", {"fields": ("created_at", "updated_at", "last_login")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "display_name", "usable_password", "password1", "password2")}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields that show only; nobody but a superuser changes their own rights, not even to keep them."""
        is_own = obj is not None and obj.pk == request.user.pk and not editor(request).is_superuser
        return (*super().get_readonly_fields(request, obj), *(RIGHTS if is_own else ()))

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "is_superuser":
            field.disabled = not editor(request).is_superuser  # A disabled field keeps its value, whatever is posted.
        return field

    @admin.display(description="password")
    def password_state(self, user: User) -> SafeString:
        state, link = ("Set", "Reset password") if user.has_usable_password() else ("Not set", "Set password")
        return format_html('{}. <a href="../password/">{}</a>', state, link)

    @admin.display(description="e-mail address", ordering="email")
    def address(self, user: User) -> str:
        return user.shown_email
