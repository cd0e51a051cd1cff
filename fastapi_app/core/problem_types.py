"""The types of problem that are the same for every domain; ``/api/problems`` shows them all.

A domain's own stand beside its errors (``EmailTaken.problem``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from project.config import config

_PHRASES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "URI Too Long",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}
"""Python 3.12 has these by the names of an older RFC, in its constants and in its phrases."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of thing that can go wrong, in words for whoever writes a client.

    ``title`` says what it is, ``when`` in which circumstances, ``cure`` what a client can do about it; ``headers`` are
    those that come with it, each with its meaning; ``errors`` an example of what the problem's say. Names are forever:
    clients branch on ``uri``.
    """

    name: str
    status: HTTPStatus
    title: str
    when: str
    cure: str
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    errors: Sequence[Mapping[str, str | int]] = field(default=(), hash=False)

    @property
    def uri(self) -> str:
        """What ``type`` says (RFC 9457, section 3.1.1): the address of its page."""
        return f"{config.base_url}/api/problems/{self.name}"

    @property
    def phrase(self) -> str:
        """What the status is called (RFC 9110, section 15)."""
        return _PHRASES.get(self.status, self.status.phrase)


BAD_REQUEST = ProblemType(
    "bad-request",
    HTTPStatus.BAD_REQUEST,
    "Bad request",
    "The request cannot be read: its body is no text, is nested too deeply or has too many members, its query has too "
    "many parameters, or it names a host that is not served here.",
    "Send UTF-8 and the address that you were given, and much data in several requests. The detail names the limit.",
)
UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    HTTPStatus.UNAUTHORIZED,
    "Unauthenticated",
    "No access token was shown, or one that has expired, was revoked or is not for this API.",
    "Get a new token and send it as Authorization: Bearer TOKEN. Do not retry with the same token.",
    {"WWW-Authenticate": "What is asked for, and why the token was refused (RFC 6750, section 3)."},
)
FORBIDDEN = ProblemType(
    "forbidden",
    HTTPStatus.FORBIDDEN,
    "Forbidden",
    "The token is good, but does not allow this: it lacks a scope, or its user lacks the permission behind it.",
    "Ask for the scope that WWW-Authenticate names, or have an administrator give its user the permission.",
    {"WWW-Authenticate": "The scope that is needed (RFC 6750, section 3.1)."},
)
NOT_FOUND = ProblemType(
    "not-found",
    HTTPStatus.NOT_FOUND,
    "Not found",
    "There is nothing at this address, or nothing that the caller may know of.",
    "Compare the address with the OpenAPI document. Follow links and Location headers rather than building addresses.",
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    HTTPStatus.METHOD_NOT_ALLOWED,
    "Method not allowed",
    "The address exists, but does not know this method.",
    "Use one of the methods that Allow names.",
    {"Allow": "The methods that the address knows (RFC 9110, section 10.2.1)."},
)
NOT_ACCEPTABLE = ProblemType(
    "not-acceptable",
    HTTPStatus.NOT_ACCEPTABLE,
    "Not acceptable",
    "The Accept header excludes every media type that this address has.",
    "Send Accept: application/json, or no Accept header. The detail names what there is.",
)
CONFLICT = ProblemType(
    "conflict",
    HTTPStatus.CONFLICT,
    "Conflict",
    "The request contradicts what is there.",
    "Get the present state, and send a request that fits it.",
)
PRECONDITION_FAILED = ProblemType(
    "precondition-failed",
    HTTPStatus.PRECONDITION_FAILED,
    "Precondition failed",
    "What If-Match names is no longer the present version: somebody else changed it first. Nothing was changed.",
    "Get the present version, apply your change to it, and send it with the new ETag.",
)
CONTENT_TOO_LARGE = ProblemType(
    "content-too-large",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "Content too large",
    "The request's body is larger than this server takes.",
    "Send less at once.",
)
URI_TOO_LONG = ProblemType(
    "uri-too-long",
    HTTPStatus.REQUEST_URI_TOO_LONG,
    "URI too long",
    "The address of the request, with its query, is longer than this server takes.",
    "Ask for less at once.",
)
HEADERS_TOO_LARGE = ProblemType(
    "headers-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "Headers too large",
    "The request has too many headers, or a header that is too long or has too many parts (RFC 6585, section 5).",
    "Send fewer and shorter headers. The detail names the limit.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "Unsupported media type",
    "The Content-Type of the body is missing, or is not one that this address reads.",
    "Send the body as the OpenAPI document has it, mostly with Content-Type: application/json.",
)
INVALID_REQUEST = ProblemType(
    "invalid-request",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Invalid request",
    "The body or a parameter is not as the OpenAPI document says. Nothing was changed.",
    "Correct what errors names, each thing by a JSON Pointer into the body (RFC 6901) or by its parameter.",
    errors=({"detail": "Field required", "pointer": "#/email"},),
)
INVALID_ROWS = ProblemType(
    "invalid-rows",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Invalid rows",
    "Lines of the file are wrong, or there are too many of them. Nothing of it was saved.",
    "Correct what errors names, each by its line and a JSON Pointer into it (RFC 6901), and send the whole again.",
    errors=({"detail": "Field required", "line": 2, "pointer": "#/email"},),
)
KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Idempotency key reused",
    "The Idempotency-Key was used for a different request in the last 24 hours. Nothing was changed.",
    "Take a new key for each new request; use the same one only to send the very same request again.",
)
KEY_IN_FLIGHT = ProblemType(
    "idempotency-key-in-flight",
    HTTPStatus.CONFLICT,
    "Idempotency key in flight",
    "The first request with this Idempotency-Key is still being answered.",
    "Send the same request with the same key again after Retry-After: it is answered as the first one was.",
    {"Retry-After": "Seconds to wait (RFC 9110, section 10.2.3)."},
)
PRECONDITION_REQUIRED = ProblemType(
    "precondition-required",
    HTTPStatus.PRECONDITION_REQUIRED,
    "Precondition required",
    "This change must say which version it is made to, so that it overwrites nobody's (RFC 6585, section 3).",
    "Get the resource and send its ETag as If-Match.",
)
TOO_MANY_REQUESTS = ProblemType(
    "too-many-requests",
    HTTPStatus.TOO_MANY_REQUESTS,
    "Too many requests",
    "The caller, or their address, has sent more requests than a period allows.",
    "Wait as long as Retry-After says, then go on more slowly.",
    {
        "RateLimit-Policy": "The limits: at most q requests in w seconds (draft-ietf-httpapi-ratelimit-headers).",
        "RateLimit": "What is left of each: r requests in the next t seconds.",
        "Retry-After": "Seconds to wait (RFC 9110, section 10.2.3).",
    },
)
TOO_MANY_STREAMS = ProblemType(
    "too-many-streams",
    HTTPStatus.TOO_MANY_REQUESTS,
    "Too many streams",
    "The caller has as many streamed responses open, such as exports, as one caller may.",
    "Read one of them to its end, or close its connection, then send the request again.",
    {"Retry-After": "Seconds to wait (RFC 9110, section 10.2.3)."},
)
INTERNAL_ERROR = ProblemType(
    "internal-error",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "Internal error",
    "This is a mistake of ours. What was asked may or may not have been done.",
    "Report it with its request_id, which our log has too.",
)
UNAVAILABLE = ProblemType(
    "unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Unavailable",
    "Something that the answer needs does not answer or is too busy just now: the database, the issuer of the token, "
    "or, for a change, what tells which tokens were revoked.",
    "Send the same request again after Retry-After, with longer pauses each time.",
    {"Retry-After": "Seconds to wait (RFC 9110, section 10.2.3)."},
)
TIMEOUT = ProblemType(
    "timeout",
    HTTPStatus.GATEWAY_TIMEOUT,
    "Timed out",
    "The answer took too long, and the request was given up. A change was undone unless it had just been made.",
    "Look whether a change was made before you send it again; a GET can be repeated at once.",
)

OF_ANY_ROUTE = (URI_TOO_LONG, HEADERS_TOO_LARGE, TOO_MANY_REQUESTS, INTERNAL_ERROR, UNAVAILABLE, TIMEOUT)
"""What the document lists for every route, whatever it is about."""

GENERIC = {
    problem.status: problem
    for problem in (
        BAD_REQUEST,
        UNAUTHENTICATED,
        FORBIDDEN,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        NOT_ACCEPTABLE,
        CONFLICT,
        PRECONDITION_FAILED,
        CONTENT_TOO_LARGE,
        URI_TOO_LONG,
        UNSUPPORTED_MEDIA_TYPE,
        INVALID_REQUEST,
        PRECONDITION_REQUIRED,
        TOO_MANY_REQUESTS,
        HEADERS_TOO_LARGE,
        INTERNAL_ERROR,
        UNAVAILABLE,
        TIMEOUT,
    )
}
"""What a problem is when nothing but its status is known of it, as where another layer refused the request."""
