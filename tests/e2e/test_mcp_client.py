"""The OAuth client of the MCP SDK against a real server: from a 401 of the API on, it finds and registers by itself."""

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from project.clients.models import Client
from project.config import config
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.e2e.test_oauth_clients import CALLBACK, NODE, Person, free_port, openid_client, person

__all__ = ["openid_client", "person"]  # Fixtures.


class Site:
    """An agent's site, over https with a certificate of its own, which publishes what the agent is."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        key_file = folder / "key.pem"
        _certify(self.certificate, key_file)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"https://127.0.0.1:{self.server.server_port}/agent.json"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key_file)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = {"client_id": site.address, "client_name": "An agent", "redirect_uris": [CALLBACK]}
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Stays silent."""

        return Handler


def _certify(certificate_file: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an agent")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture(scope="module")
def server(migrated: None, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product with both ways to register switched on, which trusts the site's certificate."""
    port = free_port()
    env = {
        "DATABASE_URL": config.database,
        "BASE_URL": f"http://127.0.0.1:{port}",
        "CLIENT_REGISTRATION": "true",
        "CLIENT_METADATA_DOCUMENTS": "true",
        "SSL_CERT_FILE": str(site.certificate),
    }
    with serving(tmp_path_factory.mktemp("mcp") / "log", "--port", str(port), env=env) as running:
        yield running


@pytest.mark.parametrize("source", ["dcr", "cimd"])
def test_mcp_client__knows_the_api_alone__registers_and_calls_it(
    source: str, openid_client: str, person: Person, server: Server, site: Site
) -> None:
    with subprocess.Popen(
        [openid_client, "mcp.mjs", f"{server.url}/api/v1/users/me", *([site.address] if source == "cimd" else [])],
        cwd=NODE,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said: dict[str, str] = {}
        for line in process.stdout:
            said = json.loads(line)
            if address := said.get("authorize"):
                process.stdin.write(json.dumps({"back": person.let_in(address)}) + "\n")
                process.stdin.flush()
        _out, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, errors
    client = Client.objects.get(client_id=said["done"])
    assert client.registration_source == source
    assert (client.client_id == site.address) is (source == "cimd")
    assert client.origin == ("127.0.0.1" if source == "dcr" else site.address.split("/")[2])
