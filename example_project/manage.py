#!/usr/bin/env python3
"""Django's command line for the example: `python example_project/manage.py …` from anywhere."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line


def main() -> None:
    """Run one management command."""
    # Run as a file, Python looks for packages beside it, not in the repository's root.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
