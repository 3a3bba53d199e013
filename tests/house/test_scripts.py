"""The shell scripts of the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from process import ROOT

FOUND = re.compile(r'cd "\$\(dirname "\$0"\)(/[./]*)?"')
SCRIPTS = [
    path.relative_to(ROOT)
    for folder in ("bin", ".ci", "examples")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file()
    and "node_modules" not in path.parts
    and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh"))
]


@pytest.mark.process
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_an_exported_cdpath_leads_nowhere_else(script: Path, tmp_path: Path) -> None:
    """`cd bin` would go to a folder of that name in it."""
    lines = (ROOT / script).read_text(encoding="utf-8").splitlines()
    number, found = next((n, m) for n, line in enumerate(lines) if (m := FOUND.search(line)))
    for place in ("clone", "other"):
        (tmp_path / place / script.parent).mkdir(parents=True)
    copy = tmp_path / "clone" / script
    last = 'echo "$here"' if lines[number].startswith("here=") else "pwd"
    copy.write_text("\n".join([*lines[: number + 1], last, ""]), encoding="utf-8")
    copy.chmod(0o755)
    environ = {"PATH": "/usr/bin:/bin", "CDPATH": str(tmp_path / "other")}
    done = subprocess.run(
        [str(script)], cwd=tmp_path / "clone", env=environ, capture_output=True, text=True
    )
    expected = (copy.parent / (found[1] or "").removeprefix("/")).resolve()
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def test_there_are_scripts() -> None:
    """Those that the documentation names."""
    assert {"bin/serve", "bin/test", "bin/install"} <= {str(each) for each in SCRIPTS}
