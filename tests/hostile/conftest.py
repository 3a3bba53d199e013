"""Let these tests use the modules of the others."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
