"""Let these tests use the modules of the others, also where they run alone."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
