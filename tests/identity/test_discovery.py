"""The documents by which clients find their way."""

from typing import Any

import pytest
from django.conf import settings
from django.test import Client as DjangoClient
from django.urls import resolve

from project.config import config
from project.identity import metadata
from project.scopes import SCOPES

ISSUER = "http://127.0.0.1:8000"


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"])
def test_discovery__names_what_there_is_and_nothing_that_is_refused(path: str) -> None:
    answer: Any = DjangoClient().get(path)
    document = answer.json()

    assert document["issuer"] == ISSUER
    for name, address in document.items():
        if name.endswith(("_endpoint", "_uri")):
            assert resolve(address.removeprefix(ISSUER)).url_name, name
    assert set(document["grant_types_supported"]) == {
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:device_code",
    }
    assert document["response_types_supported"] == ["code"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["authorization_response_iss_parameter_supported"] is True
    assert set(document["scopes_supported"]) == {"openid", "profile", "email", *SCOPES}
    assert "none" not in document["introspection_endpoint_auth_methods_supported"]
    assert answer["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(("path", "status"), [("", 200), ("/a/b", 200), ("/a", 404), ("/b", 404), ("/a/b/", 404)])
def test_discovery__of_an_issuer_with_a_path__is_found_in_the_form_of_rfc_8414(
    path: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "config", config.model_copy(update={"base_url": "https://example.com/a/b"}))

    answer: Any = DjangoClient().get(f"/.well-known/oauth-authorization-server{path}")

    assert answer.status_code == status
    assert answer.json().get("issuer") == ("https://example.com/a/b" if status == 200 else None)
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_sign_in_paths__are_paths_that_exist() -> None:
    assert {resolve(path).url_name for path in settings.SIGN_IN_PATHS} >= {"login", "token", "jwks"}
