"""Django's settings. One module for every environment: what varies comes from ``project.config``."""

import logging
from pathlib import Path
from typing import Any

import dj_database_url
from django.utils.csp import CSP

from project.config import BASE_DIR, HSTS_S, config
from project.identity.lifetimes import ACCESS_TOKEN_TTL_S, REFRESH_TOKEN_TTL_S
from project.identity.user_codes import user_code

SECRET_KEY = config.secret_key.get_secret_value()
SECRET_KEY_FALLBACKS = [key.get_secret_value() for key in config.secret_key_fallbacks]
DEBUG = not config.is_production
ALLOWED_HOSTS = list(config.allowed_hosts)
ROOT_URLCONF = "project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "oauth2_provider",
    "project.accounts",
    "project.clients",
    "project.identity",
    "project.idempotency",
    "project.schema",
    "project.admin.apps.AdminConfig",  # Django's admin, on a site that bounds what staff may do.
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "servestatic",
    "drf_spectacular_sidecar",  # Swagger UI's files for /api/docs, so that no page loads a script from elsewhere.
]

MIDDLEWARE = [
    "project.threads.give_connections_back",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "project.identity.limits.SignInLimits",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.csp",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Connections are opened and closed with the request (project.threads.DjangoThread); on PostgreSQL they come
# from psycopg's pool, so that opening one costs nothing and a broken one is never handed out.
_database = dj_database_url.parse(config.database, conn_max_age=0, conn_health_checks=True)
_options: dict[str, Any]
if config.is_sqlite:
    _options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": config.database_wait_s,
        "init_command": "PRAGMA journal_mode=WAL",
    }
    Path(_database["NAME"]).parent.mkdir(parents=True, exist_ok=True)
else:
    from project.postgresql import ConsiderateConnection  # SQLite's start does without what it imports.

    _options = {
        "application_name": "tandem-django",
        "pool": {
            "connection_class": ConsiderateConnection,
            "min_size": 1,
            "max_size": config.django_pool_size,
            "timeout": config.database_wait_s,
        },
    }
_database["OPTIONS"] = {**_database.get("OPTIONS", {}), **_options}
DATABASES = {"default": _database}

# The apps whose models are written out as SQLAlchemy tables, and the file they are written to (docs/schema.md).
SCHEMA_APPS = ["accounts", "idempotency", "identity"]
SCHEMA_FILE = BASE_DIR / "fastapi_app" / "core" / "tables.py"

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = [
    "project.identity.hashers.BoundedArgon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # Read only: a log-in replaces such a hash.
    "project.identity.hashers.RandomSecretHasher",  # Of client secrets.
]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"

# The issuer (docs/identity.md). Whatever is not named has the default of django-oauth-toolkit.
OAUTH2_PROVIDER_APPLICATION_MODEL = "clients.Client"
OAUTH2_PROVIDER = {
    "OIDC_ENABLED": True,
    "OIDC_ISS_ENDPOINT": config.base_url,
    "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
    "OIDC_RP_INITIATED_LOGOUT_DELETE_TOKENS": False,  # The session's log-ins end instead (project.identity.pages).
    "OAUTH2_SERVER_CLASS": "project.identity.server.Server",
    "OAUTH2_BACKEND_CLASS": "project.identity.server.Backend",
    "OAUTH2_VALIDATOR_CLASS": "project.identity.validator.Validator",
    "SCOPES_BACKEND_CLASS": "project.identity.scopes.Scopes",
    "ACCESS_TOKEN_GENERATOR": "project.identity.tokens.access_token",
    "REFRESH_TOKEN_GENERATOR": "project.identity.tokens.refresh_token",
    "OAUTH_PRE_TOKEN_VALIDATION": [],  # The validator knows the device's user.
    "OAUTH_DEVICE_USER_CODE_GENERATOR": user_code,
    "OAUTH_DEVICE_VERIFICATION_URI": f"{config.base_url}/device/",
    "OAUTH_DEVICE_VERIFICATION_URI_COMPLETE": f"{config.base_url}/device/?user_code={{user_code}}",
    "CLIENT_SECRET_HASHER": "sha256_token",
    "ACCESS_TOKEN_EXPIRE_SECONDS": ACCESS_TOKEN_TTL_S,
    "REFRESH_TOKEN_EXPIRE_SECONDS": REFRESH_TOKEN_TTL_S,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],  # And http on this very machine: see Client.clean().
    "PKCE_REQUIRED": True,
    "APPLICATION_ADMIN_CLASS": "project.clients.admin.ClientAdmin",
    "ACCESS_TOKEN_ADMIN_CLASS": "project.identity.admin.AccessTokenAdmin",
    "REFRESH_TOKEN_ADMIN_CLASS": "project.identity.admin.RefreshTokenAdmin",
    "ID_TOKEN_ADMIN_CLASS": "project.identity.admin.IdTokenAdmin",
    "GRANT_ADMIN_CLASS": "project.identity.admin.GrantAdmin",
    # What RFC 9700 asks for, each with a switch of its own.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_PKCE_REQUIRED": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_SCHEME": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_MATCHING": True,
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# In development files come straight from their apps; in production `manage.py collectstatic` has hashed and
# compressed them, so that they are served with an endless lifetime.
STATIC_URL = "/static/"
STATIC_ROOT = config.var_dir / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"},
}
SERVESTATIC_ALLOW_ALL_ORIGINS = False

# Paths with a lane of their own (project.lanes), so that a slow report never delays a log-in.
SIGN_IN_PATHS = [
    "/admin/login/",
    "/accounts/login/",
    "/o/token/",
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/api",
]

# The root's BodyLimit has the say; Django must not refuse what it let through.
DATA_UPLOAD_MAX_MEMORY_SIZE = config.max_body_bytes

# There is no form-action: a consent page's form is answered by a redirect to the client, which browsers would refuse.
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF, CSP.NONCE],
    "style-src": [CSP.SELF, CSP.NONCE],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}
SECURE_SSL_REDIRECT = config.is_production and config.is_https
SECURE_HSTS_SECONDS = HSTS_S if SECURE_SSL_REDIRECT else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = config.hsts_include_subdomains
SECURE_HSTS_PRELOAD = config.hsts_preload
# Subdomains and preloading are for whoever owns the domain to decide, because browsers do not forget.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = SECURE_SSL_REDIRECT
CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT
CSRF_TRUSTED_ORIGINS = [config.base_url] if config.is_https else []

# One format for every line of the process, uvicorn's included, with the id of the request that it belongs to.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "asgi_correlation_id.CorrelationIdFilter", "default_value": "-"},
    },
    "formatters": {
        "line": {
            "()": "project.logs.LineFormatter",
            "format": "{asctime} {levelname} [{correlation_id}] {name}: {message}",
            "style": "{",
        },
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "filters": ["request_id"], "formatter": "line"},
    },
    "root": {"handlers": ["stderr"], "level": config.log_level},
    "loggers": {
        # Each of these arrives with handlers of its own, which would print lines without the request's id.
        "django": {"handlers": [], "level": config.log_level, "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        "uvicorn": {"handlers": [], "level": config.log_level, "propagate": True},
        # It has none when uvicorn was started with --no-access-log.
        "uvicorn.access": {"handlers": [], "propagate": logging.getLogger("uvicorn.access").hasHandlers()},
        "uvicorn.error": {"handlers": [], "propagate": True},
        # One line per request to elsewhere is for debugging.
        "httpx2": {"level": "WARNING"},
    },
}
