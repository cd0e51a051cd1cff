from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The product's table of users, seen by another Django project."""

    name = "benchmarks.peers.django_site.accounts"
    label = "accounts"
