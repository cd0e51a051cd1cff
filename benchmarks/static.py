"""The product's static files: production refuses to start without them, and compressing them takes most of a minute."""

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers import CORES, pinned_to
from benchmarks.world import PRODUCT_BIN, ROOT, BenchmarkError, World

CACHE = Path(__file__).parent / ".cache"


@contextlib.contextmanager
def collected(world: World) -> Iterator[None]:
    """Collect beside what is done within; what was collected before from the same files is taken from the cache."""
    kept = CACHE / f"static-{_fingerprint()}"
    target = world.var_dir / "static"
    if kept.exists():
        shutil.copytree(kept, target)
        yield
        return
    log = (world.var_dir / "collectstatic.log").open("w+")
    with log, pinned_to(set(CORES)):
        process = subprocess.Popen(
            [str(PRODUCT_BIN / "python"), "manage.py", "collectstatic", "--no-input"],
            cwd=ROOT,
            env=world.environment("large", "postgres"),
            stdout=log,
            stderr=log,
        )
    with process:  # Waits for it, whatever happens within.
        yield
    if process.returncode:
        raise BenchmarkError(f"collectstatic failed, see {log.name}")
    shutil.rmtree(CACHE, ignore_errors=True)
    shutil.copytree(target, kept)


def _fingerprint() -> str:
    """Changes with the pins and with the project's own static files."""
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes())
    for path in sorted((ROOT / "project").glob("**/static/**/*")):
        if path.is_file():
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
