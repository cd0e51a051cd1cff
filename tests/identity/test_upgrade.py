"""An upgrade of a database of the release before ``password_version`` and ``Client.token_version``, with its people."""

import json
import os
import subprocess
import sys

from project.config import BASE_DIR

LAST_RELEASE = [
    ("accounts", "0003_order_and_version"),
    ("clients", "0001_initial"),
    ("identity", "0003_signer"),
]

UPGRADE = f"""
import json, uuid
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client as Browser
from django.utils.crypto import salted_hmac

executor = MigrationExecutor(connection)
last = {LAST_RELEASE!r}
others = [node for node in executor.loader.graph.leaf_nodes() if node[0] not in dict(last)]
apps = executor.migrate([*last, *others]).apps

former = apps.get_model("accounts", "User")
emails = ["ada@example.com", "hong@한국.example", "홍길동@example.com", "\\uff41nn@example.com", "root@localhost"]
ada, *_ = [former.objects.create(email=email, password=make_password("correct horse"), token_version=7)
           for email in emails]
client = apps.get_model("clients", "Client").objects.create(
    client_id="web", name="Web", allowed_scopes="openid users:read", client_type="public",
    authorization_grant_type="authorization-code", redirect_uris="https://app.example.com/callback")
apps.get_model("identity", "ApiKey").objects.create(name="key", prefix="tdm_x", hash="0" * 64, owner_id=ada.pk)
apps.get_model("oauth2_provider", "RefreshToken").objects.create(
    user_id=ada.pk, application_id=client.pk, token="x", token_checksum="x" * 64, token_family=uuid.uuid4())

session = SessionStore()
session[SESSION_KEY] = str(ada.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = salted_hmac(
    "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash", ada.password, algorithm="sha256").hexdigest()
session.save()

call_command("migrate", verbosity=0)

from oauth2_provider.models import get_refresh_token_model
from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import ApiKey, RevocationEvent
from project.identity.triggers import missing

browser = Browser()
browser.cookies["sessionid"] = session.session_key
found = {{
    "without triggers": missing(),
    "events": RevocationEvent.objects.count(),
    "users": list(User.objects.order_by("id").values_list("email", "token_version", "password_version")),
    "clients": list(Client.objects.values_list("client_id", "allowed_scopes", "is_active", "token_version")),
    "keys": ApiKey.objects.filter(owner_id=ada.pk, revoked_at=None).count(),
    "log-ins": get_refresh_token_model().objects.filter(user_id=ada.pk, revoked=None).count(),
    "session": browser.get("/device/").status_code,
}}
User.objects.filter(pk=ada.pk).update(password="another")
found["session after a new password"] = browser.get("/device/").status_code
found["log-ins after a new password"] = get_refresh_token_model().objects.filter(revoked=None).count()
print(json.dumps(found))
"""


def test_upgrade__of_the_last_release_with_data__keeps_people_clients_log_ins_and_sessions(fresh_database: str) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": fresh_database,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "ALLOWED_HOSTS": "testserver",
    }

    upgraded = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", UPGRADE],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert upgraded.returncode == 0, upgraded.stderr
    assert json.loads(upgraded.stdout) == {
        "without triggers": [],
        "events": 0,
        "users": [
            ["ada@example.com", 7, 0],
            ["hong@xn--3e0b707e.example", 7, 0],
            ["홍길동@example.com", 7, 0],
            ["ann@example.com", 7, 0],
            ["root@localhost", 7, 0],
        ],
        "clients": [["web", "openid users:read", True, 1]],
        "keys": 1,
        "log-ins": 1,
        "session": 200,
        "session after a new password": 302,
        "log-ins after a new password": 0,
    }
