"""The configuration: defaults, spellings, refusals."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from project.config import BASE_DIR, Config, load
from project.http_limits import MAX_HEADER_LENGTH

SECRET = "s" * 64
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": SECRET,
    "DATABASE_URL": "postgresql://tandem@db/tandem",
    "ALLOWED_HOSTS": "example.com, .example.org",
    "BASE_URL": "https://example.com/",
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setitem(Config.model_config, "env_file", None)


def test_development__nothing_set__needs_nothing() -> None:
    config = Config()

    assert not config.is_production
    assert config.is_sqlite
    assert Path(config.database.removeprefix("sqlite:///")) == config.var_dir / "tandem.sqlite3"


def test_production__complete__is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)

    config = Config()

    assert config.is_production
    assert config.is_https
    assert config.base_url == "https://example.com"
    assert config.allowed_hosts == ("example.com", ".example.org")
    assert config.trusted_hosts == ("example.com", "example.org", "*.example.org")
    assert SECRET not in repr(config)


def test_production__nothing_else_set__names_every_cure_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")

    with pytest.raises(SystemExit) as end:
        load()

    line = str(end.value)
    assert "\n" not in line
    assert line.startswith("tandem: ENVIRONMENT=production needs more: ")
    for name in ("SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS", "BASE_URL"):
        assert f"set {name}" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "staging"),
        ("DATABASE_URL", "mysql://user:hunter2@db/name"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "nonsense"),
        ("BASE_URL", "example.com"),
        ("BASE_URL", "ftp://example.com"),
        ("PORT", "http"),
        ("REQUEST_TIMEOUT_S", "0"),
        ("REQUEST_TIMEOUT_S", "nan"),
        ("REQUEST_TIMEOUT_S", "inf"),
        ("MAX_BODY_BYTES", "-1"),
        ("RATE_LIMIT_PRINCIPAL", "many"),
        ("RATE_LIMIT_ADDRESS", "-1/minute"),
        ("API_POOL_SIZE", "0"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_value__makes_no_sense__is_named_and_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as end:
        load()

    assert str(end.value).startswith(f"tandem: {name}: ")
    assert "hunter2" not in str(end.value)


def test_config__is_not_changed_while_the_process_runs() -> None:
    with pytest.raises(ValidationError):
        Config().port = 1  # type: ignore[misc]


KEYCLOAK = """[{
    "issuer": "https://sso.example.com/realms/main", "audiences": ["tandem-api"], "types": ["JWT"],
    "required": {"typ": "Bearer"}, "claims": {"client_id": "azp"}, "users": "email"
}]"""


def test_trusted_issuers__json__are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_ISSUERS", KEYCLOAK)

    (trusted,) = Config().trusted_issuers

    assert trusted.issuer == "https://sso.example.com/realms/main"
    assert trusted.types == ("jwt",), "compared in lower case, as media types are"
    assert trusted.algorithms == ("RS256",)
    assert (trusted.claims.scope, trusted.claims.client_id) == ("scope", "azp")
    assert (trusted.users, trusted.machine_when) == ("email", {})


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("[{", "give a JSON list of issuers"),
        ('[{"issuer": "https://a.example"}]', "give audiences"),
        ('[{"issuer": "https://a.example", "audiences": []}]', "give audiences"),
        ('[{"issuer": "http://a.example", "audiences": ["a"]}]', "give an https:// address"),
        ('[{"issuer": "a.example", "audiences": ["a"]}]', "give an https:// address"),
        ('[{"issuer": "https://a.example", "audiences": ["a"], "jwks_uri": "http://a.example/k"}]', "https://"),
        ('[{"issuer": "https://a.example", "audiences": ["a"], "algorithms": ["HS256"]}]', "ALGORITHMS"),
        ('[{"issuer": "https://a.example", "audiences": ["a"], "algorithms": ["none"]}]', "ALGORITHMS"),
        ('[{"issuer": "https://a.example", "audiences": ["a"], "user": "create"}]', "USER: Extra inputs"),
        ('[{"issuer": "https://a.example", "audiences": ["a"]}, {"issuer": "https://a.example", "audiences": ["b"]}]',
         "name each issuer once"),
        ('[{"issuer": "http://127.0.0.1:8000", "audiences": ["a"]}]', "trusted already"),
    ],
)  # fmt: skip
def test_trusted_issuers__not_safe_or_not_clear__are_refused_in_one_line(
    entry: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTED_ISSUERS", entry)

    with pytest.raises(SystemExit) as end:
        load()

    assert "\n" not in str(end.value)
    assert str(end.value).startswith("tandem: ")
    assert "TRUSTED_ISSUERS" in str(end.value)
    assert reason in str(end.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"MAX_TOKEN_LENGTH": "16384"}, "MAX_TOKEN_LENGTH: Input should be less than or equal to 16362"),
        ({"MAX_TOKEN_LENGTH": "10"}, "MAX_TOKEN_LENGTH"),
        ({"CLOCK_SKEW_S": "-1"}, "CLOCK_SKEW_S"),
        ({"CLOCK_SKEW_S": "301"}, "CLOCK_SKEW_S"),
        ({"CLOCK_SKEW_S": "nan"}, "CLOCK_SKEW_S"),
        ({"HSTS_PRELOAD": "true"}, "HSTS_PRELOAD needs HSTS_INCLUDE_SUBDOMAINS=true"),
    ],
)
def test_setting__out_of_bounds__stops_the_start_with_one_line(
    values: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as end:
        load()

    assert "\n" not in str(end.value)
    assert reason in str(end.value)


def test_settings__of_the_verifier__have_defaults_for_large_tokens_and_late_clocks() -> None:
    config = Config()

    assert config.max_token_length > 12_000
    assert config.max_token_length + len("Authorization: Bearer ") <= MAX_HEADER_LENGTH
    assert config.clock_skew_s == 60
    assert (config.hsts_include_subdomains, config.hsts_preload) == (False, False)


def test_trusted_issuers__as_the_documentation_shows_them__are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (BASE_DIR / "docs" / "identity-verifier.md").read_text()
    monkeypatch.setenv("TRUSTED_ISSUERS", page.partition("```json\n")[2].partition("```")[0])

    providers = {str(issuer.issuer).split("/")[2]: issuer for issuer in Config().trusted_issuers}

    assert len(providers) == 5
    assert providers["cognito-idp.REGION.amazonaws.com"].clients_without_audience == ("APP-CLIENT-ID",)
