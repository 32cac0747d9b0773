"""Where the tests' files lie: in memory where this machine has room for them.

Every transaction of the database waits for the disk, thousands of times over, and no test cuts the power:
those that kill a process find what it wrote either way.
"""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")  # containers have a small one
_ROOM_BYTES = 6 << 30

if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
