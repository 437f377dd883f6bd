"""How `demo.py` runs the sidecar of each server: `invalidator sidecar` with the same options, tied to the demo."""

import sys

from invalidator.cli import main

from .tether import tie

if __name__ == "__main__":
    tie()
    sys.exit(main(["sidecar", *sys.argv[1:]]))
