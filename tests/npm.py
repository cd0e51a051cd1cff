"""Programs of Node.js that tests run, installed from their lock files by the first test that wants them."""

import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from project.config import BASE_DIR
from tests.fixtures import absent

INSTALL_TIMEOUT_S = 300


def installed(folder: Path) -> Path:
    """The folder of a Node.js program, with the packages that its lock file pins."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        absent("no Node.js with npm")
    (BASE_DIR / "var").mkdir(exist_ok=True)
    with FileLock(BASE_DIR / "var" / "npm.lock"):
        mark = folder / "node_modules" / ".package-lock.json"
        if not mark.exists() or mark.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--cache", str(BASE_DIR / "var/npm")]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
            if done.returncode:
                absent(f"npm cannot install {folder.name}: {done.stderr[-500:]}")
    return folder
