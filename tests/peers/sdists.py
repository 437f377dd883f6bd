"""Source distributions of other projects, downloaded once by pip into pytest's cache, never into the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest


def sdist(config: pytest.Config, name: str, version: str, part: str = "") -> Path:
    """
    Return the directory of the unpacked source distribution of *name* at *version*.

    Args:
        part: unpack only files with this in their path.
    """
    kept = config.cache.mkdir("sdists") / f"{name}-{version}"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            wanted = ["--no-deps", f"--no-binary={name}", f"{name}=={version}", "--dest", work]
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], check=True)
            (archive,) = Path(work).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(work, [member for member in tar if part in member.name], filter="data")
            (directory,) = (place for place in Path(work).iterdir() if place.is_dir())
            shutil.move(directory, kept)
    return kept
