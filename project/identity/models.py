"""What identity keeps in the database. The API reads these tables too (``fastapi_app/core/tables.py``)."""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class SigningKey(models.Model):
    """A key pair that signs tokens. It is published before it signs, and after, for as long as what it signed lives."""

    class Algorithm(models.TextChoices):
        RS256 = "RS256"
        ES256 = "ES256"

    kid = models.CharField("key id", max_length=64)
    algorithm = models.CharField(max_length=8, choices=Algorithm)
    public_jwk = models.JSONField("public key", help_text="As a JWK (RFC 7517).")
    private_key = models.BinaryField(help_text="Encrypted with a key that is derived from SECRET_KEY.")
    created_at = models.DateTimeField(editable=False, db_default=Now())
    signs_from = models.DateTimeField(help_text="Published before, so that every verifier knows it by then.")
    retires_at = models.DateTimeField(null=True, blank=True, help_text="Not published from then on.")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["kid"], name="identity_signingkey_kid_unique")]

    def __str__(self) -> str:
        return str(self.kid)


class RevocationEvent(models.Model):
    """What is revoked, written in the transaction that revokes it. Every process polls this table."""

    class Kind(models.TextChoices):
        TOKEN = "token", "one token (jti)"
        FAMILY = "family", "all tokens of one log-in"
        USER = "user", "all tokens of a user that are older than a version"
        CLIENT = "client", "all tokens of a client that are older than a version"
        KEY = "key", "an API key"
        SIGNER = "signer", "all that a signing key has signed"

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=8, choices=Kind)
    subject = models.CharField(max_length=255, help_text="The jti, family, user id, client id, API key's id or kid.")
    version = models.BigIntegerField(
        null=True, blank=True, help_text="Of a user or client: tokens with a lower version are refused."
    )
    reason = models.CharField(max_length=64, blank=True, default="", db_default="")
    created_at = models.DateTimeField(editable=False, db_default=Now())

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["created_at"], name="identity_revocation_created"),
            models.Index(fields=["subject", "kind"], name="identity_revocation_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class ApiKey(models.Model):
    """A key for scripts: ``Authorization: Bearer tdm_...``. Only its hash is kept, so it is shown once."""

    name = models.CharField(max_length=100, help_text="What it is for.")
    prefix = models.CharField(max_length=16, editable=False, help_text="How it begins, to tell keys apart.")
    hash = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the key, in hexadecimal.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DB_CASCADE, related_name="api_keys")
    scopes = models.TextField(blank=True, default="", db_default="", help_text="Separated by spaces.")
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="At most a minute behind.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(editable=False, db_default=Now())

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [models.UniqueConstraint(fields=["hash"], name="identity_apikey_hash_unique")]

    def __str__(self) -> str:
        return str(self.name)


class DeviceResources(models.Model):
    """The resources that a device asked tokens for (RFC 8707); the toolkit's device grant has no column for them.

    The row is found by the family that the device code begins, so that the code itself is not kept twice.
    """

    family = models.UUIDField()
    resources = models.JSONField(help_text="Resource identifiers.")
    created_at = models.DateTimeField(editable=False, db_default=Now())

    class Meta:
        verbose_name_plural = "device resources"
        constraints: ClassVar = [models.UniqueConstraint(fields=["family"], name="identity_deviceresources_unique")]

    def __str__(self) -> str:
        return str(self.family)

    @classmethod
    def granted(cls, family: uuid.UUID) -> list[str]:
        """Returns the resources that were asked for with this device code; empty when it named no resource."""
        return list(cls.objects.filter(family=family).values_list("resources", flat=True).first() or [])


class SignIn(models.Model):
    """When and how a user signed in before a client's log-in began.

    Every ID token of that log-in says the same (OpenID Connect Core 1.0, section 12.2), wherever else the user signs in
    meanwhile. A log-in that is older than this table has no row, and its ID tokens say nothing about it.
    """

    family = models.UUIDField(primary_key=True, help_text="The log-in.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DB_CASCADE, related_name="+")
    auth_time = models.DateTimeField()
    amr = models.CharField("authentication methods", max_length=255, blank=True, help_text="Separated by spaces.")
    acr = models.CharField("authentication context class", max_length=255, blank=True)
    created_at = models.DateTimeField(editable=False, db_default=Now())

    class Meta:
        indexes: ClassVar = [models.Index(fields=["created_at"], name="identity_signin_created")]

    def __str__(self) -> str:
        return str(self.family)

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of an ID token that say it (section 2)."""
        claims = {"auth_time": int(self.auth_time.timestamp()), "amr": self.amr.split(), "acr": self.acr}
        return {name: value for name, value in claims.items() if value}


class ExternalIdentity(models.Model):
    """Whom another issuer means: its (``iss``, ``sub``) is one of our users."""

    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DB_CASCADE, related_name="external_identities")
    created_at = models.DateTimeField(editable=False, db_default=Now())

    class Meta:
        verbose_name_plural = "external identities"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="identity_externalidentity_unique")
        ]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"
