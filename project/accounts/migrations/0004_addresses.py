"""Rewrites stored e-mail addresses to their normal form, or stops with the ids of users who would share one."""

import logging
from collections import defaultdict
from typing import Any

from django.apps.registry import Apps
from django.core.management.base import CommandError
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import F

from project.addresses import InvalidAddress, looked_up, normal_form

logger = logging.getLogger(__name__)

NAMED = 20
"""Users whose ids one line names."""


def rewrite(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    users = apps.get_model("accounts", "User").objects.using(schema_editor.connection.alias)
    rewritten: dict[int, str] = {}
    refused: list[int] = []
    for pk, email in users.values_list("pk", "email").order_by("pk").iterator():
        if (new := looked_up(email)) != email:
            rewritten[pk] = new
        if not _is_address(new):
            refused.append(pk)
    _stop_if_shared(users, rewritten)
    for pk, new in rewritten.items():
        users.filter(pk=pk).update(email=new, version=F("version") + 1)
    if refused:
        logger.warning(
            "these users keep an e-mail address that is refused from now on, and sign in as before; "
            "change it when you edit them: %s",
            _named(refused),
        )


def _stop_if_shared(users: Any, rewritten: dict[int, str]) -> None:
    """Raises CommandError: an address that is rewritten is another user's, too. Nothing has been changed by then."""
    holders = defaultdict(list)
    for pk, new in rewritten.items():
        holders[new].append(pk)
    addresses = list(holders)
    for begin in range(0, len(addresses), 500):
        some = addresses[begin : begin + 500]
        for pk, email in users.filter(email__in=some).exclude(pk__in=rewritten).values_list("pk", "email"):
            holders[email].append(pk)
    if shared := [sorted(pks) for pks in holders.values() if len(pks) > 1]:
        groups = "; ".join(" and ".join(map(str, pks)) for pks in sorted(shared)[:NAMED])
        more = f"; and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise CommandError(
            f"these users have one e-mail address in different spellings, and nothing was changed: {groups}{more}. "
            "Give all but one of each another address, then migrate again."
        )


def _is_address(email: str) -> bool:
    try:
        return bool(normal_form(email))
    except InvalidAddress:
        return False


def _named(pks: list[int]) -> str:
    return ", ".join(map(str, pks[:NAMED])) + (f" and {len(pks) - NAMED} more" if len(pks) > NAMED else "")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_order_and_version"),
    ]

    operations = [
        migrations.RunPython(rewrite, migrations.RunPython.noop),
    ]
