"""The key that signs access tokens, in two files under ``var/``: the private half, and the public JWK Set."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from joserfc.jwk import KeySet, RSAKey

from project.config import Config

ALGORITHM = "RS256"
KEY_BITS = 2048


def signing_key(config: Config) -> RSAKey:
    """The private key, made on first use and readable by its owner only. Its public half stands in ``jwks_file``."""
    config.var_dir.mkdir(parents=True, exist_ok=True)
    if not config.signing_key_file.exists():
        _create(config.signing_key_file, RSAKey.generate_key(KEY_BITS).as_pem(private=True))
    key = RSAKey.import_key(config.signing_key_file.read_bytes(), {"use": "sig", "alg": ALGORITHM})
    key.ensure_kid()
    jwks = json.dumps(KeySet([key]).as_dict(private=False))
    if not config.jwks_file.exists() or config.jwks_file.read_text() != jwks:
        _replace(config.jwks_file, jwks.encode())
    return key


def _create(path: Path, content: bytes) -> None:
    """Write a private file whole or not at all; of several processes the first one's content stays."""
    temporary = _temporary(path, content)
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _replace(path: Path, content: bytes) -> None:
    """Write a public file whole or not at all; a reader sees the old content or the new."""
    temporary = _temporary(path, content)
    temporary.chmod(0o644)
    temporary.replace(path)


def _temporary(path: Path, content: bytes) -> Path:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:  # Mode 0600.
        file.write(content)
    return Path(file.name)
