"""HTTP/1.1 for uvicorn, within limits: ``uvicorn asgi:app --http project.protocol:BoundedHttp``.

uvicorn's httptools protocol takes any offer to upgrade for a switch of protocols, and bounds neither the head of a
request nor the time that a client takes for it (docs/decisions/0018-http-protocol.md).
"""

import asyncio
import socket
import sys
from http import HTTPStatus

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from project.connections import Connections
from project.http_limits import MAX_HEADER_BYTES, MAX_TARGET_LENGTH

MAX_PIPELINED = 100
"""Requests that wait for the answers to those before them; the connection closes after the last one accepted."""
MAX_READ_TARGET = 2**16 - 1
"""Bytes of the longest target that httptools can take apart; ``MAX_TARGET_LENGTH`` is far below."""
OFFER = frozenset({b"upgrade", b"http2-settings"})
"""The header fields, and connection options, that offer another protocol (RFC 9110, section 7.8; RFC 7540, 3.2)."""


class RefusedError(Exception):
    """A request that is refused while it is parsed; httptools makes it the context of its own error."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class _DiscardedTrailers(list[tuple[bytes, bytes]]):
    """Where the trailer fields of a chunked body go: not among the header fields (RFC 9110, section 6.5.1)."""

    def append(self, _field: tuple[bytes, bytes]) -> None:
        return


DISCARDED_TRAILERS = _DiscardedTrailers()


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's httptools protocol with limits, and without a switch to protocols that are not served."""

    _is_refused = False
    """Whether the rest of what the client sends is ignored."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.url = b""
        self._pending_bytes = 0
        """Received since the last head ended or the last piece of a body came: of a head, or of what frames chunks.
        It is the thirtieth attribute: with more, Python finds none of an instance's as fast."""
        self._held = Connections.of(self.server_state, self.loop)
        _bound_reading(transport, self._held.client_read_timeout_s)
        if not self._held.admit(self):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._held.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; refuses what is malformed (400), or goes on for too long without an end of its head (414, 431)."""
        self._unset_keepalive_if_required()
        if self._is_refused:
            return
        self._pending_bytes += len(data)
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._take_offer(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.status if isinstance(cause, RefusedError) else HTTPStatus.BAD_REQUEST)
        else:
            if self._pending_bytes > MAX_HEADER_BYTES + MAX_TARGET_LENGTH:
                self._refuse(self._fault_of_length())

    def _should_upgrade(self) -> bool:
        """Returns True: whatever is offered, uvicorn serves nothing until ``_take_offer`` has looked at it."""
        return True

    def _take_offer(self, rest: bytes) -> bytes:
        """Switches to a websocket, or returns what to parse instead: the head without its offer, and the ``rest``.

        The parser has ended the message with its head, so another parses it again, and the body this time.
        """
        if self.scope["method"] == "CONNECT":
            self._refuse(HTTPStatus.NOT_IMPLEMENTED)  # What follows would not be HTTP (RFC 9110, section 9.3.6).
            return b""
        if self._is_websocket_handshake():
            self._held.discard(self)
            self.handle_websocket_upgrade()
            return b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn does.
        return self._head_without_offer() + rest

    def _is_websocket_handshake(self) -> bool:
        """Returns whether the offer is one that is accepted: a handshake of RFC 6455, section 4.1."""
        headers = dict(self.scope["headers"])
        return (
            self.ws_protocol_class is not None
            and self.scope["method"] == "GET"
            and self.scope["http_version"] == "1.1"
            and headers.get(b"upgrade", b"").lower() == b"websocket"
            and b"sec-websocket-key" in headers
            and not {b"content-length", b"transfer-encoding"} & headers.keys()
        )

    def _head_without_offer(self) -> bytes:
        method, version = self.scope["method"].encode(), self.scope["http_version"].encode()
        lines = [b"%b %b HTTP/%b\r\n" % (method, self.url, version)]
        for name, value in self.scope["headers"]:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                lines.append(b"connection: %b\r\n" % b", ".join(o for o in options if o.lower() not in OFFER))
            elif name not in OFFER:
                lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join([*lines, b"\r\n"])

    def on_headers_complete(self) -> None:
        """Begins the request. A head that has ended is the app's to refuse (``project.middleware.HeadLimits``).

        Raises:
            RefusedError: the target is too long to be taken apart, or too many requests wait already.
        """
        if len(self.url) > MAX_READ_TARGET:
            raise RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG)
        if self.pipeline and len(self.pipeline) >= MAX_PIPELINED:
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS)
        self._pending_bytes = 0
        self._held.renew(self)
        super().on_headers_complete()
        self.headers = DISCARDED_TRAILERS

    def _fault_of_length(self) -> HTTPStatus:
        if len(self.url) > MAX_TARGET_LENGTH:
            return HTTPStatus.REQUEST_URI_TOO_LONG
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def waits_for_client(self) -> bool:
        """Returns whether a request, its body or the reading of its response is awaited."""
        cycle = self._last_cycle()
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def _last_cycle(self) -> RequestResponseCycle | None:
        """Returns the last request that was parsed, which may wait for those before it; uvicorn's type omits None."""
        return self.cycle

    def awaited(self) -> object | None:
        """Returns what the client should not be long about: a request's head, or the rest of a body already answered.

        An idle connection is closed by uvicorn (``--timeout-keep-alive``), a slow body by ``Deadline``.
        """
        cycle = self._last_cycle()
        is_served = cycle is not None and (not cycle.response_complete or self._is_idle(cycle))
        return None if is_served or self.transport.is_closing() else cycle or self

    def give_up(self) -> None:
        """Closes; with a 408 only if a head has begun, because else it could be taken for the next request's answer."""
        if self._has_begun_head(self._last_cycle()):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _is_idle(self, last: RequestResponseCycle) -> bool:
        """Returns whether nothing of a request is to come, so that uvicorn minds how long that lasts."""
        return not last.more_body and not self._has_begun_head(last) and self.timeout_keep_alive_task is not None

    def _has_begun_head(self, last: RequestResponseCycle | None) -> bool:
        return self.scope is not (last and last.scope)

    def abort(self) -> None:
        self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answers and closes, after the answers to the requests before this one, and never within a response."""
        self._is_refused = True
        cycle = self._last_cycle()
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            self._answer(status)
        elif not cycle.more_body:  # It has come whole, so the next request is at fault.
            cycle.keep_alive = False
        elif cycle.response_started or self.pipeline:
            self.transport.close()
        else:
            self._answer(status)

    def _answer(self, status: HTTPStatus) -> None:
        client = ":".join(map(str, self.client or ()))
        self.logger.warning("%s - refused: %d %s", client, status, status.phrase)
        body = status.phrase.encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % field for field in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self.transport.close()


def _bound_reading(transport: asyncio.Transport, timeout_s: float) -> None:
    """Has the kernel close a connection whose client reads nothing of what waits for it; only Linux can."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if sys.platform == "linux" and connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))
