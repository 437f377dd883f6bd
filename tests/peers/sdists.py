"""Source distributions of others, fetched once by pip into pytest's cache. Nothing of theirs is ours to keep."""

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
    The directory of the source distribution of *name* at *version*, unpacked.

    Args:
        part: only what has this in its path is unpacked.
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
