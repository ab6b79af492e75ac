"""The environment of neural-tangents: archived, it imports on no JAX newer than 0.5.3, so it gets one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = ("neural-tangents==0.6.5", "jax==0.5.3", "jaxlib==0.5.3")
FOLDER = Path(__file__).resolve().parent / ".venv-neural-tangents"  # a name that .gitignore knows


class NoEnvironment(Exception):
    """The environment could not be set up; the message says why, in one sentence."""


def python_with_neural_tangents() -> Path:
    """The interpreter of an environment with neural-tangents, set up at the first call (about a minute)."""
    python = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = FOLDER / "complete"
    if complete.exists() and complete.read_text().split() == list(PACKAGES):
        return python
    print(f"Setting up {', '.join(PACKAGES)} in {FOLDER} …", file=sys.stderr, flush=True)
    _step([sys.executable, "-m", "venv", "--clear", str(FOLDER)], "no environment could be made")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    _step(install, "pip could not install neural-tangents (is there a network?)")
    _step([str(python), "-c", "import neural_tangents"], "neural-tangents does not import")
    complete.write_text("\n".join(PACKAGES))
    return python


def _step(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing was said"]
        raise NoEnvironment(f"{failure}: {said[-1]}")
