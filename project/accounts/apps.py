from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """People and what they may do."""

    name = "project.accounts"
    label = "accounts"
