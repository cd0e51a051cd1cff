"""Client ID metadata documents: whose addresses are called, what is believed of what is found there, for how long."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client as DjangoClient
from django.utils import timezone

from project.clients.models import Client
from project.config import config
from project.identity import client_documents, fetching, metadata
from project.identity.client_documents import is_document_address
from project.identity.fetching import FetchError, fetch_json, is_public
from project.identity.limits import limiter
from project.lanes import Lane
from tests.asgi.server import PATIENCE_S
from tests.identity.flows import CALLBACK, Browser, Verifier, authorize_path, claims, exchange, sent_back

PATH = "/client.json"


class Site:
    """A site of a stranger, which answers every request with the same bytes."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}{PATH}"
        self.asked = 0
        self.answer: Callable[[socket.socket], None] = lambda connection: connection.sendall(self.document())
        self.changes: dict[str, Any] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def document(self, status: str = "200 OK", *headers: str, body: bytes | None = None) -> bytes:
        described = {"client_id": self.address, "client_name": "An agent", "redirect_uris": [CALLBACK], **self.changes}
        body = json.dumps(described).encode() if body is None else body
        lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def says(self, sent: bytes) -> None:
        self.answer = lambda connection: connection.sendall(sent)

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self.socket.accept()
            except OSError:
                return
            with closing(connection):
                self.asked += 1
                try:
                    connection.recv(4096)
                    self.answer(connection)
                except OSError:
                    continue


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    switched_on = config.model_copy(update={"client_metadata_documents": True})
    for module in (client_documents, metadata):
        monkeypatch.setattr(module, "config", switched_on)
    monkeypatch.setattr(client_documents, "_failures", {})
    limiter().reset()
    site = Site()
    yield site
    site.socket.close()
    limiter().reset()


def look_at(browser: Browser, client_id: str, **parameters: str) -> Any:
    return browser.get(authorize_path(Client(client_id=client_id), Verifier(), **parameters))


def refused(answer: Any) -> bool:
    return answer.status_code == 400 and not Client.objects.exists()


def test_document__good__is_a_client_that_people_log_in_with(browser: Browser, site: Site) -> None:
    told: Any = DjangoClient().get("/.well-known/oauth-authorization-server")
    assert told.json()["client_id_metadata_document_supported"] is True
    pkce = Verifier()
    path = authorize_path(Client(client_id=site.address), pkce)

    page = browser.get(path)

    assert "Its name is not verified" in page.content.decode()
    assert site.address.split("/")[2] in page.content.decode()
    client = Client.objects.get()
    assert (client.registration_source, client.client_type, client.origin) == ("cimd", "public", site.address[7:-12])
    code = sent_back(browser.submit(path, page, decision="allow"))["code"]
    tokens = exchange(client, code, pkce).json()
    assert claims(tokens["access_token"])["client_id"] == site.address
    assert site.asked == 1, "it is kept"


def test_document__by_default__is_not_fetched(browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_documents, "config", config)

    assert refused(look_at(browser, site.address))
    assert site.asked == 0


@pytest.mark.attack
def test_document__nobody_signed_in__is_not_fetched(database: str, site: Site) -> None:
    for parameters in ({}, {"prompt": "none"}, {"prompt": "create"}):
        look_at(Browser(), site.address, **parameters)
    form = "application/x-www-form-urlencoded"
    body = f"grant_type=authorization_code&code=x&client_id={site.address}"
    for path in ("/o/token/", "/o/revoke/", "/o/introspect/", "/o/device-authorization/"):
        DjangoClient().post(path, body, form)

    assert site.asked == 0
    assert not Client.objects.exists()


@pytest.mark.attack
@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "https://elsewhere.example.com/client.json"},
        {"client_id": None},
        {"client_secret": "s"},
        {"client_secret_expires_at": 0},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"redirect_uris": ["http://example.com/"]},
        {"redirect_uris": []},
        {"grant_types": ["client_credentials"]},
        {"client_name": "\u202eTandem"},
    ],
)
def test_document__that_says_what_is_not_offered__is_refused(
    changes: dict[str, Any], browser: Browser, site: Site
) -> None:
    site.changes = changes

    assert refused(look_at(browser, site.address))
    look_at(browser, site.address)
    assert site.asked == 1, "a failure is remembered"


@pytest.mark.attack
@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("404 Not Found", (), None),
        ("302 Found", ("Location: http://127.0.0.1/client.json",), None),
        ("200 OK", (), b"a" * 6000),
        ("200 OK", (), b"{"),
        ("200 OK", (), b"[" * 5000),
        ("200 OK", (), b"[]"),
        ("200 OK", (), b"\xff"),
        ("200 OK", ("Content-Encoding: gzip",), None),
        ("200 OK", ("X: " + "a" * 70_000,), None),
    ],
)
def test_document__that_is_no_small_json_object__is_refused(
    status: str, headers: tuple[str, ...], body: bytes | None, browser: Browser, site: Site
) -> None:
    site.says(site.document(status, *headers, body=body))

    assert refused(look_at(browser, site.address))


@pytest.mark.attack
def test_document__of_another_type__is_refused(browser: Browser, site: Site) -> None:
    site.says(site.document().replace(b"application/json", b"text/html"))

    assert refused(look_at(browser, site.address))


@pytest.mark.attack
@pytest.mark.parametrize("before_the_drip", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"])
def test_document__that_drips__holds_nobody_for_longer_than_the_deadline(
    before_the_drip: bytes, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIME_LIMIT_S", 0.5)

    def drip(connection: socket.socket) -> None:
        connection.sendall(before_the_drip)
        for _ in range(1000):
            connection.sendall(b"a")
            time.sleep(0.05)

    site.answer = drip
    begun = time.monotonic()

    with pytest.raises(FetchError):
        fetch_json(site.address, allow_loopback=True)

    assert time.monotonic() - begun < 20


@pytest.mark.attack
def test_document__look_up_that_hangs__is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIME_LIMIT_S", 0.2)
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: over.wait(30) and [])

    with pytest.raises(FetchError, match="in time"):
        fetch_json("https://example.com/client.json", allow_loopback=False)
    over.set()


@pytest.mark.attack
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",  # noqa: S104
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1",
        "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1",
        "2002:7f00:1::", "2002:808:808::", "2001:0:808:808::1", "2001:db8::1", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "fec0::1", "ff02::1", "100::1", "", "localhost", "0x7f000001", "127.1",
    ],
)  # fmt: skip
def test_address__not_of_the_public_internet__is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_address__of_the_public_internet__is_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.attack
def test_fetch__of_a_host_with_one_private_address__connects_to_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [("8.8.8.8", 443), ("127.0.0.1", 443)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answer) for answer in answers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    connected: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **_options: connected.append(args))

    with pytest.raises(FetchError, match="not public"):
        fetch_json("https://rebinding.example.com/client.json", allow_loopback=False)
    assert not connected


@pytest.mark.attack
def test_fetch__connects_to_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    look_ups: list[str] = []

    def rebinding(host: str, *_args: Any, **_options: Any) -> Any:
        look_ups.append(host)
        address = "93.184.216.34" if len(look_ups) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    connected: list[str] = []

    def connect(address: tuple[str, int], _timeout: float) -> Any:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)

    with pytest.raises(FetchError):
        fetch_json("https://rebinding.example.com/client.json", allow_loopback=False)
    assert (look_ups, connected) == (["rebinding.example.com"], ["93.184.216.34"])


@pytest.mark.attack
def test_fetch__loopback_in_production__is_refused(site: Site) -> None:
    with pytest.raises(FetchError, match="not public"):
        fetch_json(site.address, allow_loopback=False)
    assert site.asked == 0


@pytest.mark.attack
def test_fetch__certificate_that_nobody_vouches_for__is_refused(site: Site) -> None:
    with pytest.raises(FetchError, match=ssl.SSLError.__name__):
        fetch_json(site.address.replace("http://", "https://"), allow_loopback=True)


@pytest.mark.attack
@pytest.mark.parametrize(
    "client_id",
    [
        "https://example.com", "https://example.com/", "http://example.com/c", "https:///c", "https://example.com/c?x=1",
        "https://example.com/c#x", "https://example.com/c#", "https://u:p@example.com/c", "https://@example.com/c",
        "https://example.com/a/../c", "https://example.com/./c", "https://example.com/%2e%2E/c",
        "https://example.com:99999/c", "https://[::1/c", "https://example.com/c d", "https://example.com/c\r\nX: y",
        "https://\u0430.example.com/c", "https://example.com/" + "c" * 255, "ftp://example.com/c", "web", "",
    ],
)  # fmt: skip
def test_client_id__that_is_no_address_of_a_document__is_an_unknown_client(client_id: str) -> None:
    assert not is_document_address(client_id)


def test_client_id__of_a_document__is_an_https_address() -> None:
    assert is_document_address("https://example.com/client.json")
    assert is_document_address("https://example.com:8443/a/b")


@pytest.mark.attack
def test_document__of_an_address_that_an_administrator_gave_to_a_client__takes_nothing_over(
    browser: Browser, site: Site
) -> None:
    Client.objects.create(
        client_id=site.address,
        name="Ours",
        client_type="public",
        authorization_grant_type="authorization-code",
        redirect_uris=CALLBACK,
        allowed_scopes="openid",
    )

    look_at(browser, site.address, scope="openid")

    assert site.asked == 0
    assert Client.objects.get().name == "Ours"


@pytest.mark.attack
def test_document__stopped_in_the_admin__stays_stopped(browser: Browser, site: Site) -> None:
    look_at(browser, site.address)
    Client.objects.update(is_active=False, cimd_expires_at=timezone.now() - timedelta(days=3))

    assert look_at(browser, site.address).status_code == 400
    assert site.asked == 1


def test_document__due__is_fetched_again_and_believed_a_day_longer_without_an_answer(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.says(site.document("200 OK", "Cache-Control: max-age=1"))
    look_at(browser, site.address)
    assert Client.objects.get().cimd_expires_at > timezone.now() + timedelta(minutes=4), "not more often than that"

    def due_since(hours: int) -> None:
        monkeypatch.setattr(client_documents, "_failures", {})
        Client.objects.update(cimd_expires_at=timezone.now() - timedelta(hours=hours))

    due_since(1)
    site.changes = {"client_name": "Renamed"}
    site.says(site.document("200 OK", "Cache-Control: max-age=99999999"))
    assert "Renamed" in look_at(browser, site.address).content.decode()
    assert Client.objects.get().cimd_expires_at < timezone.now() + timedelta(hours=25), "not for ever"

    site.says(site.document("500 Oh"))
    due_since(1)
    assert look_at(browser, site.address).status_code == 200
    due_since(25)
    assert look_at(browser, site.address).status_code == 400


@pytest.mark.attack
def test_documents__many__are_limited_in_rate_and_number(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.says(site.document("404 Not Found"))
    for number in range(35):
        look_at(browser, site.address.replace(PATH, f"/{number}.json"))
    assert site.asked == 30

    monkeypatch.setattr(client_documents, "_fetches", threading.BoundedSemaphore(1))
    limiter().reset()
    with client_documents._fetches:
        assert "being looked up just now" in look_at(browser, site.address).content.decode()
    assert len(client_documents._failures) <= client_documents.MOST_FAILURES


@pytest.mark.attack
def test_document__while_it_is_fetched__others_have_the_slot(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane(slots=1, places=2, queue=1, wait_s=PATIENCE_S)
    served: list[str] = []

    def another_page() -> None:
        lane.begin()
        served.append("another page")
        lane.step_aside()
        lane.end()

    def slow(_url: str, **_options: Any) -> Any:
        other = threading.Thread(target=another_page)
        other.start()
        other.join(PATIENCE_S)
        assert served
        raise FetchError

    monkeypatch.setattr(client_documents, "fetch_json", slow)
    lane.begin()
    with lane.stepping_aside():
        assert look_at(browser, site.address).status_code == 400

    assert served == ["another page"]
