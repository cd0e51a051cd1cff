"""What can go wrong with users."""

from http import HTTPStatus

from fastapi_app.core.errors import Conflict, NotFound
from fastapi_app.core.problem_types import ProblemType


class UserNotFound(NotFound):
    """No user has this id."""

    detail = "There is no such user."
    problem = ProblemType(
        "user-not-found",
        HTTPStatus.NOT_FOUND,
        "User not found",
        "No user has the id in the address.",
        "Look for the user in the list. Users are deactivated, never deleted: an id that was good once stays good.",
    )


class EmailTaken(Conflict):
    """Another user has this e-mail address."""

    detail = "A user with this e-mail address exists already."
    problem = ProblemType(
        "email-taken",
        HTTPStatus.CONFLICT,
        "E-mail address taken",
        "Another user has the e-mail address, in whatever spelling of upper and lower case. Nothing was changed.",
        "Use another address, or change the user who has it.",
    )
