"""What dnc costs, measured: imports, processes and sessions of each action, and times on two real hosts."""

import sys
from pathlib import Path

# What is measured is this checkout, whatever else is installed.
for _directory in ("tests", "lab", "lib"):
    _place = str(Path(__file__).resolve().parent.parent / _directory)
    if _place not in sys.path:
        sys.path.insert(0, _place)
