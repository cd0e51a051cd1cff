"""What can go wrong with users."""

from fastapi_app.core.errors import Conflict, NotFound


class UserNotFound(NotFound):
    """No user has this id."""

    detail = "There is no such user."


class EmailTaken(Conflict):
    """Another user has this e-mail address."""

    detail = "A user with this e-mail address exists already."
