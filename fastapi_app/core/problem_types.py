"""The types of problem that are the same for every domain, one for each status; ``/api/problems`` shows them all.

A domain's own stand beside its errors (``EmailTaken.problem``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from project.config import config


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of thing that can go wrong, in words for whoever writes a client.

    ``title`` says what it is, ``when`` in which circumstances, ``cure`` what a client can do about it; ``headers`` are
    those that come with it, each with its meaning. Names are forever: clients branch on ``uri``.
    """

    name: str
    status: HTTPStatus
    title: str
    when: str
    cure: str
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def uri(self) -> str:
        """What ``type`` says (RFC 9457, section 3.1.1): the address of its page."""
        return f"{config.base_url}/api/problems/{self.name}"


BAD_REQUEST = ProblemType(
    "bad-request",
    HTTPStatus.BAD_REQUEST,
    "Bad request",
    "The request cannot be read: its body is no text, is nested too deeply, or names a host that is not served here.",
    "Send UTF-8 and the address that you were given.",
)
UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    HTTPStatus.UNAUTHORIZED,
    "Unauthenticated",
    "No access token was shown, or one that has expired, was revoked or is not for this API.",
    "Get a new token and send it as Authorization: Bearer TOKEN. The same one will not do.",
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
    "Get the present state, decide anew, and send a request that fits it.",
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
    HTTPStatus.CONTENT_TOO_LARGE,
    "Content too large",
    "The request's body is larger than this server takes.",
    "Send less at once.",
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
    HTTPStatus.UNPROCESSABLE_CONTENT,
    "Invalid request",
    "The body or a parameter is not as the OpenAPI document says. Nothing was changed.",
    "Correct what errors names, each thing by a JSON Pointer into the body (RFC 6901) or by its parameter.",
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
    "Something that the answer needs, such as the database, does not answer or is too busy just now.",
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
        UNSUPPORTED_MEDIA_TYPE,
        INVALID_REQUEST,
        PRECONDITION_REQUIRED,
        TOO_MANY_REQUESTS,
        INTERNAL_ERROR,
        UNAVAILABLE,
        TIMEOUT,
    )
}
"""What a problem is when nothing but its status is known of it, as where another layer refused the request."""
