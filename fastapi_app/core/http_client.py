"""The client for calls to other services."""

from functools import cached_property

import httpx2

TIMEOUT_S = 10.0
"""For each phase of a call; below the request's own deadline."""


class HttpClient:
    """Has one ``client`` for the whole process, to be closed with it.

    It is made when the first call is: its libraries, and the certificates that it verifies others by, are 50 ms of
    CPU time and 3 MB that a process which calls nobody does without.
    """

    @cached_property
    def client(self) -> httpx2.AsyncClient:
        """Keeps connections open from call to call; safe to use from many tasks at once."""
        return httpx2.AsyncClient(timeout=TIMEOUT_S)

    async def aclose(self) -> None:
        """Close its connections, if any was made."""
        if "client" in vars(self):
            await self.client.aclose()
