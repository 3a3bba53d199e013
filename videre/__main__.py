"""Run the server by `python -m videre`, like bin/signaller.py."""

import sys

from videre.command.cli import main

sys.exit(main())
