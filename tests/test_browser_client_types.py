"""The browser client is typed, small, and part of the package."""

from __future__ import annotations

import gzip
import subprocess
from configparser import ConfigParser
from pathlib import Path

from process import ROOT, node_modules, require

CLIENT = ROOT / "videre" / "static" / "videre.js"
DEMO = ROOT / "videre" / "static" / "demo.js"  # which imports the rest of it

MAX_BYTES = 12 * 1024  # gzipped, as it is: there is no build step
STRICT = ["--allowJs", "--checkJs", "--strict", "--noEmit", "--skipLibCheck"]
BROWSER = ["--target", "es2022", "--module", "es2022", "--lib", "es2022,dom,dom.iterable"]


def test_the_types_hold() -> None:
    """The compiler of TypeScript finds nothing in the JSDoc that is not so; nor in the demo's."""
    tsc = node_modules() / "typescript" / "bin" / "tsc"
    command = [require("node"), str(tsc), *STRICT, *BROWSER, str(CLIENT), str(DEMO), "--listFiles"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    checked = {Path(line).name for line in done.stdout.splitlines() if str(CLIENT.parent) in line}
    assert checked == {file.name for file in CLIENT.parent.glob("*.js")}, done.stdout
    assert done.returncode == 0, done.stdout


def test_it_is_small() -> None:
    """As a server that compresses sends it."""
    assert len(gzip.compress(CLIENT.read_bytes(), 9)) < MAX_BYTES


def test_it_needs_nothing() -> None:
    """It imports no module, and loads as one."""
    text = CLIENT.read_text(encoding="utf-8")
    assert not any(line.startswith("import ") or "import(" in line for line in text.splitlines())


def test_it_is_shipped() -> None:
    """The package holds it."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert "static/*" in config["options.package_data"]["videre"]
