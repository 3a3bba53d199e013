"""`python -m videre`: the signaller, as by bin/signaller.py."""

import sys

from videre.command.cli import main

sys.exit(main())
