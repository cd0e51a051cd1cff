"""People. Integrity lives in the database (constraints, ``db_default``), because Django is not its only writer."""

from collections.abc import Iterator
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX, acheck_password, check_password, make_password
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models import F
from django.db.models.functions import Lower, Now
from django.utils.crypto import salted_hmac

from project.accounts.fields import LowerCaseEmailField
from project.accounts.hashes import warn_if_unreadable, warn_of_malformed
from project.addresses import normal_form, shown
from project.ordering import Bytewise, Moment
from project.versions import VersionedQuerySet, VersionField


def unusable_password() -> str:
    """A value that no password matches."""
    return make_password(None)


class UserManager(BaseUserManager["User"]):
    """Makes users by e-mail address."""

    def get_queryset(self) -> VersionedQuerySet["User"]:
        return VersionedQuerySet(self.model, using=self._db)

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Save a user; without a password nobody can log in as them.

        Raises:
            ValueError: no address was given, or what is none (project.addresses.InvalidAddress).
            django.db.IntegrityError: the address, in any spelling, is taken.
        """
        if not email:
            raise ValueError("a user needs an e-mail address")
        user = self.model(email=normal_form(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Save a user who may do everything. Raises what ``create_user`` raises."""
        return self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})


class User(AbstractBaseUser, PermissionsMixin):
    """A person with an account, known by e-mail address."""

    email = LowerCaseEmailField("e-mail address", max_length=254)
    display_name = models.CharField(max_length=150, blank=True, default="", db_default="")
    password = models.CharField(
        "password", max_length=128, default=unusable_password, db_default=UNUSABLE_PASSWORD_PREFIX
    )
    is_active = models.BooleanField(
        "active", default=True, db_default=True, help_text="Clear this instead of deleting the account."
    )
    is_staff = models.BooleanField("staff", default=False, db_default=False, help_text="May use this admin site.")
    is_superuser = models.BooleanField(
        "superuser", default=False, db_default=False, help_text="Has every permission without being given it."
    )
    token_version = models.BigIntegerField(
        default=0, db_default=0, editable=False, help_text="Raised by what ends this user's tokens."
    )
    password_version = models.BigIntegerField(
        default=0, db_default=0, editable=False, help_text="Raised by the database with each new password."
    )
    version = VersionField(help_text="Raised by every change.")
    created_at = models.DateTimeField(editable=False, db_default=Now())
    updated_at = models.DateTimeField(editable=False, auto_now=True, db_default=Now())

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["email"],
                name="accounts_user_email_unique",
                violation_error_message="A user with this e-mail address exists already.",
            ),
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="accounts_user_email_is_lower_case"),
        ]
        # Each order that the API lists users in has the index that serves it (fastapi_app/users/repository.py). The
        # inactive have theirs, too, which cost a writer nothing as long as few are.
        indexes: ClassVar = [
            models.Index(Moment("created_at"), "id", name="accounts_user_created"),
            models.Index(Bytewise("email"), "id", name="accounts_user_email"),
            models.Index(Bytewise(Lower("display_name")), "id", name="accounts_user_name"),
            models.Index(fields=["id"], condition=models.Q(is_active=False), name="accounts_user_inactive"),
            models.Index(
                Moment("created_at"), "id", condition=models.Q(is_active=False), name="accounts_user_inactive_created"
            ),
            models.Index(Bytewise("email"), condition=models.Q(is_active=False), name="accounts_user_inactive_email"),
        ]

    def __str__(self) -> str:
        return self.shown_email

    @property
    def shown_email(self) -> str:
        """The address as people read it: its domain in U-labels."""
        return shown(self.email)

    def get_full_name(self) -> str:
        return str(self.display_name or self.shown_email)

    def get_short_name(self) -> str:
        return self.get_full_name()

    # A hash is replaced at sign-in when the hasher has new parameters. The password is the same, so no token and no
    # session ends. The database cannot know that from the column alone: the statement says it, by the complement of
    # password_version (project.identity.trigger_sql). Every statement that does not say it has set a new password.

    def check_password(self, raw_password: str | None) -> bool:
        """Whether it is the password; a hash that cannot be read is logged, and matches no password."""
        warn_if_unreadable(self.pk, self.password)
        try:
            return check_password(raw_password, self.password, self._replace_hash)
        except ValueError:
            warn_of_malformed(self.pk)
            make_password(raw_password or "")  # It takes as long as a hash that can be read.
            return False

    async def acheck_password(self, raw_password: str | None) -> bool:
        """See ``check_password``."""
        warn_if_unreadable(self.pk, self.password)
        try:
            return await acheck_password(raw_password, self.password, sync_to_async(self._replace_hash))
        except ValueError:
            warn_of_malformed(self.pk)
            await sync_to_async(make_password, thread_sensitive=False)(raw_password or "")
            return False

    def _replace_hash(self, raw_password: str) -> None:
        """Hash the same password anew, unless the password has been changed since this instance was read."""
        password = make_password(raw_password)
        same = User.objects.using(self._state.db).filter(pk=self.pk, password=self.password)
        if same.update(password=password, password_version=-1 - F("password_version")):
            self.password = password

    def save(self, **options: Any) -> None:
        has_new_password = vars(self).get("_password") is not None
        super().save(**options)
        if has_new_password:  # The database has raised the versions; this session's hash is made of one.
            self.refresh_from_db(fields=["password_version", "token_version"])

    def get_session_auth_hash(self) -> str:
        """What a session of this user carries: it changes with the password, and not with the password's hash."""
        return self._session_hash(None)

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """What a session carries that began with a former SECRET_KEY, or before there was ``password_version``."""
        for secret in settings.SECRET_KEY_FALLBACKS:
            yield self._session_hash(secret)
        yield super().get_session_auth_hash()
        yield from super().get_session_auth_fallback_hash()

    def _session_hash(self, secret: str | None) -> str:
        value = f"{self.pk} {self.password_version}"
        return salted_hmac("project.accounts.session", value, secret=secret, algorithm="sha256").hexdigest()
