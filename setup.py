"""The metadata stands in setup.cfg.

A package index shows the README without the files around it. README_LINKS is where the forge shows
them, as docs/releasing.md says: links and images then lead there.
"""

import os
import re
from pathlib import Path

from setuptools import setup

described = {}
if links := os.environ.get("README_LINKS"):
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?![a-z]+:|#)", f"]({links}/", text)
    text = re.sub(r'(<img src=")([^":]+)', rf"\1{links}/\2?raw=true", text)
    described["long_description"] = text

setup(**described)
