"""The configuration: the only module that reads the environment.

Every value has a default for a laptop without services. With ``ENVIRONMENT=production`` what must not be
guessed is required, and a missing or unsafe value stops the process with one line that says what to do.
"""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from limits import parse
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from project.http_limits import MAX_HEADER_LENGTH

BASE_DIR = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET_KEY = "development-only-and-public-never-sign-anything-real-with-it"  # noqa: S105  It is no secret: production refuses it.
MINIMUM_SECRET_KEY_LENGTH = 50
"""Characters; what ``manage.py check --deploy`` asks for."""

type Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


type Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"
]
"""What may sign a token (RFC 7518, RFC 9864): never a secret that both sides share, never nothing."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
API_KEY_PREFIX = "tdm_"
"""How every API key begins, so that secret scanners and people see what it is."""
API_DOCS_CLIENT_ID = "api-docs"
"""The public OAuth client that the Authorize button of /api/docs logs in as."""
API_DOCS_REDIRECT_PATH = "/docs/oauth2-redirect"
"""Below /api: where the issuer sends that client's browser back to."""
ANSWERS_KEPT_FOR = timedelta(hours=24)
"""How long the answer to a request with an ``Idempotency-Key`` is kept."""
MAXIMUM_RESOURCE_LENGTH = 2000
"""Characters of a resource identifier; what every proxy lets through in a query."""
HSTS_S = 60 * 60 * 24 * 365
"""How long browsers come by https only, once they have, to either half."""
CLOCK_SKEW_S = 60.0
"""Seconds: clocks that are set over the network differ by less, and hosts that have lost theirs for a while by more."""
MAX_TOKEN_LENGTH = 15 * 1024
"""Characters: an Entra token with 200 groups, the most that it puts into one, has about 12,000."""


class StartupError(RuntimeError):
    """A reason not to start that an operator can remove: one line says why and what to do."""


class ClaimNames(BaseModel):
    """What an issuer calls the claims that are read here; a dot leads into an object (``realm_access.roles``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: str = "scope"
    """The scopes: separated by spaces (RFC 9068), or a list."""
    machine_scope: str | None = None
    """Those of a machine client, where they stand elsewhere (``roles`` at Entra)."""
    client_id: str = "client_id"
    email: str = "email"
    email_verified: str = "email_verified"


class TrustedIssuer(BaseModel):
    """An issuer of access tokens that ``/api`` believes (docs/identity-verifier.md has examples)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    """Its ``iss``, letter for letter."""
    audiences: tuple[str, ...] = ()
    """Of which a token must name one: what the issuer calls this API."""
    clients_without_audience: tuple[str, ...] = ()
    """Client ids whose tokens may have no ``aud`` at all, as those of Cognito. Such a token is good for every API that
    believes the issuer, so list only clients that may call this one. An ``aud`` that is there must be right."""
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256",), min_length=1)
    types: tuple[str, ...] = Field(default=("at+jwt",), min_length=1)
    """What a token's ``typ`` header may be, in any case, without ``application/``; ``""`` stands for none."""
    jwks_uri: str | None = None
    """Where its public keys are; None leaves it to its OpenID Connect discovery document."""
    claims: ClaimNames = ClaimNames()
    scope_prefix: str = ""
    """What each scope of this API begins with at the issuer (``tandem-api/`` at Cognito). Other scopes are ignored."""
    required: Mapping[str, str] = Field(default_factory=dict)
    """Claims that a token must have with these values, as ``{"typ": "Bearer"}`` of Keycloak's access tokens."""
    users: Literal["none", "email", "create"] = "none"
    """Whom a token speaks for whose (issuer, subject) is linked to no user yet: nobody; the user who has the verified
    e-mail address; or, when there is none, a new user with it."""
    machine_when: Mapping[str, str] = Field(default_factory=dict)
    """Claims by which a machine client's token is known, as ``{"sub": "{client_id}"}``. Empty: all are users'."""

    @model_validator(mode="after")
    def _for_this_api(self) -> Self:
        if not (self.audiences or self.clients_without_audience):
            raise ValueError(f"give audiences, the names that {self.issuer} has for this API")
        return self

    @field_validator("types")
    @classmethod
    def _lower_case(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(media_type.lower().removeprefix("application/") for media_type in types)

    @field_validator("issuer", "jwks_uri")
    @classmethod
    def _over_tls(cls, value: str | None) -> str | None:
        if value is not None and not is_safe_address(value):
            raise ValueError("give an https:// address (http:// only on this machine)")
        return value


is_uri_text = re.compile(r"[!#-;=?-\[\]_a-z~]+", re.ASCII).fullmatch
"""Whether a text has only characters that a URI may have (RFC 3986, section 2)."""


def is_resource_identifier(value: str) -> bool:
    """Whether a text is an absolute URI without a fragment, as RFC 8707, section 2, demands of ``resource``."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(
        is_uri_text(value)
        and "#" not in value
        and len(value) <= MAXIMUM_RESOURCE_LENGTH
        and parts.scheme
        and (parts.netloc or parts.path)
    )


def is_loopback(address: str) -> bool:
    """Whether an address leads to this very machine by plain HTTP (RFC 8252, section 7.3)."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS


def is_safe_address(address: str) -> bool:
    """Whether nobody on the way can change what is fetched there."""
    parts = urlsplit(address)
    return bool(parts.hostname) and (parts.scheme == "https" or is_loopback(address))


class Config(BaseSettings):
    """What the environment, or a ``.env`` file beside ``manage.py``, says. Names are the variables' in lower case."""

    model_config = SettingsConfigDict(
        env_file=BASE_DIR / ".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    environment: Literal["development", "production"] = "development"
    secret_key: SecretStr = SecretStr(DEVELOPMENT_SECRET_KEY)
    """Signs Django's sessions and CSRF tokens, and encrypts the private halves of signing keys."""
    secret_key_fallbacks: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Former secret keys, comma-separated: what they signed and encrypted is still believed and read."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "localhost", "[::1]")
    """Host names served, comma-separated; ``.example.com`` means the domain and everything below it."""
    base_url: str = "http://127.0.0.1:8000"
    """Where people reach this service; also the issuer (``iss``) of its tokens."""
    host: str = "127.0.0.1"
    port: int = 8000
    """Where ``make run`` listens, for the addresses that start-up prints."""
    var_dir: Path = BASE_DIR / "var"
    """What the process writes on a laptop: the SQLite database, collected static files."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    database_url: SecretStr = SecretStr("")
    """``sqlite:///path`` or ``postgresql://user:password@host:port/name``; empty means SQLite in ``var_dir``."""
    django_pool_size: int = Field(default=5, ge=2)
    """PostgreSQL connections of Django's half, per process; one is kept for signing in."""
    api_pool_size: int = Field(default=10, ge=1)
    """PostgreSQL connections of the API's half. The sum of both times the processes is the budget."""
    redis_url: SecretStr = SecretStr("")
    """``redis://host:port/0`` for what processes count together (rate limits); empty means each counts for itself."""
    database_wait_s: Seconds = 10.0
    """How long one statement waits for SQLite's write lock, or one request for a pooled connection (then 503)."""

    django_concurrency: int = Field(default=1, ge=1)
    """Requests that run Django's Python at once, per process; docs/decisions/0005-lanes.md says why it is one."""
    django_niceness: int = Field(default=10, ge=0, le=19)
    """By how much a thread with a page is nicer than the event loop, on Linux. Without it the kernel lets a busy page
    go on for some milliseconds before the loop so much as asks for the interpreter; decision 5 says what it costs where
    processes share a core."""
    django_queue: int = Field(default=100, ge=0)
    """Requests that may wait to begin in Django (then 503)."""
    django_wait_s: Seconds = 10.0
    """How long one waits to begin in Django (then 503)."""

    rate_limit_principal: str = "6000/minute"
    """Requests of one caller to ``/api``; 0 is no limit."""
    rate_limit_address: str = "12000/minute"
    """Requests from one address to ``/api``, whoever calls; 0 is no limit."""

    api_audience: str = "tandem-api"
    """The audience (``aud``) that a token must name to be taken by ``/api``."""
    resource_identifiers: Annotated[tuple[str, ...], NoDecode] = ()
    """Further resources that clients may name as ``resource`` (RFC 8707), comma-separated absolute URIs, such as
    ``https://app.example.com/mcp``. The API itself, ``BASE_URL/api``, is always known."""
    client_metadata_documents: bool = False
    """Whether an https address is taken as ``client_id``, and the client's metadata are fetched from it. Off, because
    strangers then bring clients, and this service calls addresses that they choose."""
    client_registration: bool = False
    """Whether anybody may register a client at ``/o/register/`` (RFC 7591). Off, because clients of strangers come."""
    registered_client_scopes: Annotated[tuple[str, ...], NoDecode] = ()
    """The scopes that clients which registered themselves may ask for, comma-separated; empty means all that people can
    allow: those of identity and those of the API."""
    most_registered_clients: int = Field(default=1000, ge=1)
    """Clients that registered themselves, at most; the oldest unused ones make room. A row takes about 1 kB."""
    trusted_issuers: Annotated[tuple[TrustedIssuer, ...], NoDecode] = ()
    """Other issuers whose tokens ``/api`` takes, as a JSON list."""
    max_token_ttl_s: int = Field(default=24 * 60 * 60, ge=5 * 60, le=30 * 24 * 60 * 60)
    """Longest life of a token of ours: a longer one is refused, and what revokes one is remembered for that long."""
    max_token_length: int = Field(default=MAX_TOKEN_LENGTH, ge=1024, le=MAX_HEADER_LENGTH - 22)
    """Characters of the longest access token that ``/api`` reads. With ``Authorization: Bearer``, 22 more, it must fit
    into one header."""
    clock_skew_s: float = Field(default=CLOCK_SKEW_S, ge=0, le=300, allow_inf_nan=False)
    """Seconds that the clock of an issuer, the own one included, and this process's may differ by: for so long before
    ``iat`` and ``nbf`` and after ``exp`` a token is good. Revocation remembers what it must for the longest skew."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose scripts may call ``/api``, and get tokens for it, comma-separated: ``https://app.example.com``."""

    hsts_include_subdomains: bool = False
    """Whether browsers come by https only to every host below this one as well, for a year. They do not forget."""
    hsts_preload: bool = False
    """Whether browsers may ship with that rule. It takes months to leave their list."""

    request_timeout_s: Seconds = 30.0
    """Time a request has to begin its response (then 504)."""
    header_timeout_s: Seconds = 10.0
    """Time a client has to send the head of a request once its connection is open or the head has begun (then 408)."""
    client_read_timeout_s: Seconds = 60.0
    """Time a client may take nothing of a response that waits for it; Linux then closes its connection."""
    max_connections: int = Field(default=0, ge=0)
    """Connections held at once, per process; 0 is half of the files that the process may open, 10,000 at most. A full
    process closes the connection that has waited longest for its client."""
    max_body_bytes: int = Field(default=5 * 1024 * 1024, ge=0)
    """Largest request body (then 413), for both halves."""
    max_import_bytes: int = Field(default=10 * 1024 * 1024, ge=0)
    """Largest file of an import (then 413)."""
    max_streams_per_caller: int = Field(default=4, ge=1)
    """Streamed responses, such as exports, that one caller of ``/api`` may have open at once, per process (then 429).
    Each costs the event loop for as long as it lasts, so their number is what other callers wait for."""
    startup_timeout_s: Seconds = 60.0
    """Time all resources together have to open, migrations in development included."""
    shutdown_timeout_s: Seconds = 10.0
    """Time each resource has to close."""

    @field_validator(
        "allowed_hosts",
        "cors_origins",
        "secret_key_fallbacks",
        "resource_identifiers",
        "registered_client_scopes",
        mode="before",
    )
    @classmethod
    def _split_on_commas(cls, value: Any) -> Any:
        return tuple(item for part in value.split(",") if (item := part.strip())) if isinstance(value, str) else value

    @field_validator("trusted_issuers", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"give a JSON list of issuers: {error}") from None

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, host, *rest = urlsplit(origin)
            if scheme not in {"http", "https"} or not host or any(rest):
                raise ValueError("give origins as a browser does: scheme, host and port only, and no *")
        return value

    @field_validator("resource_identifiers")
    @classmethod
    def _resource_identifiers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(is_resource_identifier, value)):
            raise ValueError("give absolute URIs without a fragment, such as https://app.example.com/mcp")
        return value

    @field_validator("base_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).netloc:
            raise ValueError("give the address people use, such as https://app.example.com")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _supported_database(cls, value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        if scheme not in {"", "sqlite", "postgres", "postgresql"}:
            raise ValueError("give sqlite:///path/to/file or postgresql://user:password@host:port/name")
        if scheme == "sqlite" and (not rest.startswith("/") or rest == "/" or ":memory:" in rest):
            raise ValueError("SQLite needs a file that both layers open: sqlite:///path/to/file")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and urlsplit(value.get_secret_value()).scheme not in {"redis", "rediss"}:
            raise ValueError("give redis://host:port/0 or rediss://...")
        return value

    @model_validator(mode="after")
    def _one_entry_for_one_issuer(self) -> Self:
        issuers = [self.base_url, *(trusted.issuer for trusted in self.trusted_issuers)]
        if len(set(issuers)) < len(issuers):
            raise ValueError("TRUSTED_ISSUERS: name each issuer once; the service itself (BASE_URL) is trusted already")
        return self

    @field_validator("rate_limit_principal", "rate_limit_address")
    @classmethod
    def _limit(cls, value: str) -> str:
        try:
            if value != "0":
                parse(value)
        except ValueError:
            raise ValueError("give a limit such as 600/minute, or 0 for none") from None
        return value

    @model_validator(mode="after")
    def _safe_in_production(self) -> Self:
        if not self.is_production:
            return self
        secret = self.secret_key.get_secret_value()
        demands = {
            "set SECRET_KEY to a random secret of 50 characters or more": secret == DEVELOPMENT_SECRET_KEY
            or len(secret) < MINIMUM_SECRET_KEY_LENGTH,
            "set DATABASE_URL": not self.database_url.get_secret_value(),
            "set ALLOWED_HOSTS to the host names to serve": not {"allowed_hosts"} & self.model_fields_set
            or not self.allowed_hosts,
            "set BASE_URL to the public address": "base_url" not in self.model_fields_set,
        }
        if missing := [demand for demand, unmet in demands.items() if unmet]:
            raise ValueError(f"ENVIRONMENT=production needs more: {'; '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _preload_is_for_all_subdomains(self) -> Self:
        if self.hsts_preload and not self.hsts_include_subdomains:
            raise ValueError("HSTS_PRELOAD needs HSTS_INCLUDE_SUBDOMAINS=true: browsers list no host alone")
        return self

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def is_https(self) -> bool:
        return self.base_url.startswith("https://")

    @property
    def api_resource(self) -> str:
        """The API's resource identifier (RFC 8707, RFC 9728): what a client names to get a token for ``/api``."""
        return f"{self.base_url}/api"

    @property
    def resources(self) -> tuple[str, ...]:
        """Every resource identifier that a token may be issued for, the API's first."""
        return tuple(dict.fromkeys((self.api_resource, *self.resource_identifiers)))

    @property
    def resource_metadata_url(self) -> str:
        """Where the API's protected resource metadata are (RFC 9728)."""
        return f"{self.base_url}/.well-known/oauth-protected-resource/api"

    @property
    def database(self) -> str:
        """The database's address, secrets included."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.var_dir / 'tandem.sqlite3'}"

    @property
    def is_sqlite(self) -> bool:
        return self.database.startswith("sqlite:")

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """``allowed_hosts`` as Starlette writes them: ``.example.com`` is ``example.com`` and ``*.example.com``."""
        pairs = ((host[1:], f"*{host}") if host.startswith(".") else (host,) for host in self.allowed_hosts)
        return tuple(host for pair in pairs for host in pair)


def load() -> Config:
    """Read the configuration, or end the process with one line that names each variable and its cure."""
    try:
        return Config()
    except ValidationError as error:
        reasons = (
            " ".join([*(f"{str(part).upper()}:" for part in fault["loc"]), fault["msg"].removeprefix("Value error, ")])
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise SystemExit(f"tandem: {'; '.join(reasons)}") from None


config = load()
