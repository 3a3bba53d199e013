#!/usr/bin/env python3
"""Run the server with the configuration in this folder; --help lists the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from videre.command.cli import main

sys.exit(main(default_config=Path(__file__).resolve().parent / "conf.json"))
