"""Source distributions of other projects, downloaded once by pip and kept, never in the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest


def sdist(config: pytest.Config, name: str, version: str, part: str = "") -> Path:
    """As `unpacked`, in pytest's cache."""
    return unpacked(config.cache.mkdir("sdists"), name, version, part)


def unpacked(place: Path, name: str, version: str, part: str = "", python: str | Path = sys.executable) -> Path:
    """
    Return the directory of the unpacked source distribution of *name* at *version*, made in *place* the first time.

    Args:
        part: unpack only files with this in their path.
        python: one that the version runs on.
    """
    kept = place / f"{name}-{version}"
    if not kept.exists():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as work:
            wanted = ["--no-deps", f"--no-binary={name}", f"{name}=={version}", "--dest", work]
            subprocess.run([python, "-m", "pip", "download", "--quiet", *wanted], check=True)
            (archive,) = Path(work).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(work, [member for member in tar if part in member.name], filter="data")
            (directory,) = (place for place in Path(work).iterdir() if place.is_dir())
            shutil.move(directory, kept)
    return kept
