"""Resource indicators (RFC 8707): which services a token may be for, and how ``resource`` becomes ``aud``."""

from collections.abc import Iterable

from oauthlib.oauth2.rfc6749.errors import OAuth2Error

from project.config import config


class InvalidTargetError(OAuth2Error):
    """A resource is unknown, malformed, or was not granted (RFC 8707, section 2)."""

    error = "invalid_target"
    description = "This client can get no token for one of these resources."


def known(values: Iterable[str]) -> list[str]:
    """Returns the resources that ``values`` name, each once; an empty value counts as omitted (RFC 6749, section 3.1).

    A value is compared letter by letter with the identifiers of this service, so that whatever is malformed is unknown.

    Raises:
        InvalidTargetError: a value is no identifier that this service knows.
    """
    named = list(dict.fromkeys(value for value in values if value))
    if not set(named) <= set(config.resources):
        raise InvalidTargetError
    return named


def as_audience(resources: list[str]) -> str | list[str]:
    """Returns the ``aud`` of a token for these resources; without a resource it is ``API_AUDIENCE``."""
    if not resources:
        return config.api_audience
    return resources[0] if len(resources) == 1 else resources
