"""``python manage.py issue_token EMAIL --scope "users:read users:write"``: an access token for the terminal."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from project.accounts.models import User
from project.config import config
from project.identity.keys import KeyUnreadable
from project.identity.lifetimes import ACCESS_TOKEN_TTL_S
from project.identity.scopes import held_by
from project.identity.tokens import is_scope, issue_access_token


class Command(BaseCommand):
    """Prints the token alone, so that it can be used as ``$(python manage.py issue_token ...)``."""

    help = "Print a signed access token with which to call /api as the user with this e-mail address."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--scope", default="", help='what it allows, such as "users:read users:write"')
        parser.add_argument("--ttl", type=int, default=ACCESS_TOKEN_TTL_S, help="seconds it is good for (default: 300)")

    def handle(self, *args: Any, email: str, scope: str, ttl: int, **options: Any) -> None:
        user = User.objects.filter(email=email).first()
        if user is None:
            raise CommandError(f"there is no user with the e-mail address {email}")
        if not user.is_active:
            raise CommandError(f"the user {email} is deactivated")
        if not 0 < ttl <= config.max_token_ttl_s:
            raise CommandError(f"--ttl takes a number of seconds above 0, and {config.max_token_ttl_s} at most")
        scopes = scope.split()
        if wrong := [name for name in scopes if not is_scope(name)]:
            raise CommandError(f"not a scope: {' '.join(wrong)}")
        if missing := [name for name in scopes if name not in held_by(user, scopes)]:
            raise CommandError(f"the user {email} does not hold what this needs: {' '.join(missing)}")
        try:
            token = issue_access_token(user, scopes, ttl_s=ttl, client_id="manage.py")
        except KeyUnreadable as error:
            raise CommandError(str(error)) from None
        self.stdout.write(token)
