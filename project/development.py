"""What a developer's start gives: a database brought up to date, an administrator, and the addresses to open."""

import secrets

from django.contrib.auth import get_user_model
from django.core.management import call_command
from filelock import FileLock, Timeout

from project.clients.models import Client
from project.config import API_DOCS_CLIENT_ID, API_DOCS_REDIRECT_PATH, Config
from project.scopes import SCOPES

ADMINISTRATOR_EMAIL = "admin@example.com"

# Held until the process ends, so that of several workers of one server only the first prints the block.
_announcers: list[FileLock] = []


def bring_up_to_date(config: Config) -> None:
    """Apply the migrations that are pending, and welcome.

    Raises:
        Timeout: another process has been at it for ``STARTUP_TIMEOUT_S``.
    """
    config.var_dir.mkdir(parents=True, exist_ok=True)
    # Several workers start together: one migrates, the others wait and then find nothing left to do.
    with FileLock(config.var_dir / "database.lock", timeout=config.startup_timeout_s):
        call_command("migrate", interactive=False, verbosity=0)
        welcome(config)


def welcome(config: Config) -> None:
    """Make what is missing to log in with, and print the addresses, and a new login, once per server."""
    password = create_administrator()
    register_api_docs(config)
    announcer = FileLock(config.var_dir / f"announced-{config.host}-{config.port}.lock", timeout=0)
    try:
        announcer.acquire()
    except Timeout:
        if password is None:
            return
    else:
        _announcers.append(announcer)
    print(block(f"http://{config.host}:{config.port}", password), flush=True)


def create_administrator() -> str | None:
    """Create one superuser with a random password, unless there is a superuser.

    Returns:
        The password, which is stored nowhere, or None when nothing was created.
    """
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    users.create_superuser(ADMINISTRATOR_EMAIL, password, display_name="Administrator")
    return password


def register_api_docs(config: Config) -> None:
    """Let the Authorize button of /api/docs log in: a public client, where it is missing or the address has changed."""
    redirect_uris = f"{config.base_url}/api{API_DOCS_REDIRECT_PATH}"
    Client.objects.update_or_create(
        client_id=API_DOCS_CLIENT_ID,
        defaults={"redirect_uris": redirect_uris},
        create_defaults={
            "name": "API docs",
            "client_type": Client.CLIENT_PUBLIC,
            "authorization_grant_type": Client.GRANT_AUTHORIZATION_CODE,
            "redirect_uris": redirect_uris,
            "allowed_scopes": " ".join(["openid", "profile", "email", *SCOPES]),
        },
    )


def block(address: str, password: str | None) -> str:
    """The lines to print: addresses, and the login when it was just made."""
    login = (
        [f"Login     {ADMINISTRATOR_EMAIL}", f"Password  {password}   (shown this once)"]
        if password
        else ["Login     as before; 'python manage.py changepassword EMAIL' sets a new password"]
    )
    lines = [
        f"Tandem    {address}/",
        f"Admin     {address}/admin/",
        f"API docs  {address}/api/docs",
        f"Ready?    {address}/readyz",
        *login,
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join(["", rule, *lines, rule, ""])
