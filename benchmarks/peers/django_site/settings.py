"""Settings as ``startproject`` writes them; each Django peer adds its app and its URLs."""

import os
from datetime import timedelta

from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers.common import ALGORITHM, AUDIENCE, DATABASE_URL, ISSUER, POOL_SIZE, public_pem

PEER = os.environ["BENCH_PEER"]
PEER_APPS = {
    "ninja": ["ninja"],
    "drf": ["rest_framework"],
    "drf_threads": ["rest_framework"],
    "bolt": ["django_bolt"],
    "django": [],
}
URLCONFS = {
    "ninja": "benchmarks.peers.ninja",
    "drf": "benchmarks.peers.drf",
    "drf_threads": "benchmarks.peers.drf",
    "bolt": "benchmarks.peers.django_site.urls",
    "django": "benchmarks.peers.django_site.urls",
}

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = URLCONFS[PEER]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
WSGI_APPLICATION = "benchmarks.peers.django_site.wsgi.application"

INSTALLED_APPS = [
    "benchmarks.peers.django_site.accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    *PEER_APPS[PEER],
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Django's advice: on ASGI the driver's pool and no persistent connections; with threads one that each thread keeps.
_address = conninfo_to_dict(DATABASE_URL)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _address["dbname"],
        "USER": _address["user"],
        "PASSWORD": _address.get("password") or "",
        "HOST": _address["host"],
        "PORT": _address.get("port") or "",
        **(
            {"CONN_MAX_AGE": None}
            if PEER == "drf_threads"
            else {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"min_size": 2, "max_size": POOL_SIZE}}}
        ),
    }
}

AUTH_USER_MODEL = "accounts.User"
# As the product's: another would hash the password anew at the log-in, which ends the tokens of all peers.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
SIMPLE_JWT = {
    "ALGORITHM": ALGORITHM,
    "VERIFYING_KEY": public_pem(),
    "AUDIENCE": AUDIENCE,
    "ISSUER": ISSUER,
    "USER_ID_CLAIM": "sub",
    "TOKEN_TYPE_CLAIM": None,  # The type stands in the header of these tokens (RFC 9068).
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
}

BOLT_API = ["benchmarks.peers.bolt:api"]
