"""One document from an address that a stranger has chosen, without this service becoming the stranger's hands (SSRF).

The name is resolved once, every address that it has is judged, and the connection goes to an address that was judged:
a second look-up could lead elsewhere (DNS rebinding). Nothing follows a redirect. One deadline bounds the look-up, the
handshake, the headers and the body together, because a server that sends a byte now and then never meets a time-out of
single reads.
"""

import io
import ipaddress
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TIME_LIMIT_S = 5.0
SIZE_LIMIT_BYTES = 5 * 1024
"""What the draft of client ID metadata documents recommends."""
OK = 200
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2002::/16")))
"""Global IPv6 addresses that lead on to an IPv4 address or to a special place: Teredo and its neighbours, 6to4."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

_look_ups = ThreadPoolExecutor(max_workers=2, thread_name_prefix="look-up")
"""The resolver knows no deadline; the code that waits for it does. Its threads begin with the first look-up."""


class FetchError(Exception):
    """There is no document, or none that may be fetched; the message is for the log."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and what its server said about keeping it."""

    body: bytes
    cache_control: str


class Connection(Protocol):
    """A socket, plain or with TLS."""

    def settimeout(self, value: float | None, /) -> None: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv_into(self, buffer: "WriteableBuffer", /) -> int: ...
    def close(self) -> None: ...


def is_public(address: str) -> bool:
    """Whether an IP address is a host's on the public Internet.

    An IPv6 address that carries an IPv4 address is refused whatever it carries (mapped, compatible, 6to4, Teredo,
    NAT64): a host that offers itself to the public has an address of its own.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.is_multicast or ip.is_reserved or not ip.is_global:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    return ip in _GLOBAL_UNICAST and not any(ip in network for network in _EMBEDDING)


def fetch_json(url: str, *, allow_loopback: bool) -> Fetched:
    """GET a JSON document of a few kB. ``url`` has been found well-formed; it blocks for ``TIME_LIMIT_S`` at most.

    Raises:
        FetchError: there is none, it takes too long, or its host is not on the public Internet.
    """
    deadline = time.monotonic() + TIME_LIMIT_S
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = _judged_addresses(host, port, deadline, allow_loopback=allow_loopback)
    request = (
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n"
        "Accept-Encoding: identity\r\nUser-Agent: tandem\r\nConnection: close\r\n\r\n"
    )
    try:
        connection = _connect(addresses, port, deadline, tls_name=host if parts.scheme == "https" else None)
        try:
            connection.settimeout(_left(deadline))
            connection.sendall(request.encode("ascii"))
            return _read(connection, deadline)
        finally:
            connection.close()
    except (OSError, ValueError, HTTPException) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from None


def _judged_addresses(host: str, port: int, deadline: float, *, allow_loopback: bool) -> list[str]:
    look_up = _look_ups.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = [str(info[4][0]) for info in look_up.result(_left(deadline))]
    except TimeoutError:
        look_up.cancel()
        raise FetchError("the host was not found in time") from None
    except (OSError, UnicodeError) as error:
        raise FetchError(f"the host was not found: {error}") from None
    for address in found:
        if not is_public(address) and not (allow_loopback and ipaddress.ip_address(address).is_loopback):
            raise FetchError(f"the host is at {address}, which is not public")
    return found


def _connect(addresses: list[str], port: int, deadline: float, *, tls_name: str | None) -> Connection:
    """Connect to the first of these addresses that answers."""
    failure: OSError = OSError("the host has no address")
    for address in addresses:
        try:
            plain = socket.create_connection((address, port), _left(deadline))
        except OSError as error:
            failure = error
            continue
        if tls_name is None:
            return plain
        plain.settimeout(_left(deadline))
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=tls_name)
        except BaseException:
            plain.close()
            raise
    raise failure


def _read(connection: Connection, deadline: float) -> Fetched:
    response = HTTPResponse(_UntilDeadline(connection, deadline), method="GET")  # type: ignore[arg-type]  # It asks for no more.
    response.begin()
    if response.status != OK:
        raise FetchError(f"the status is {response.status}")
    media_type = response.headers.get_content_type()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise FetchError("the document is not JSON")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise FetchError("the document is compressed")
    body = response.read(SIZE_LIMIT_BYTES + 1)
    if len(body) > SIZE_LIMIT_BYTES:
        raise FetchError("the document is too large")
    return Fetched(body, response.headers.get("Cache-Control", ""))


class _UntilDeadline(io.RawIOBase):
    """What a connection receives until the deadline; ``HTTPResponse`` takes it for the socket."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def makefile(self, *_mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left
