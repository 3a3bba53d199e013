"""A folder of wheels for tests in which pip installs what this environment has.

The wheels are packed from the installed files. pip then needs no index: to read its pages for our
requirements takes six seconds of CPU.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackagePath, distribution
from pathlib import Path

from packaging.requirements import Requirement
from patience import patient

SECONDS = patient(120)

#: Files in a distribution's .dist-info that pip writes; they are no part of a wheel.
_OF_PIP = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}


def closure(*names: str) -> Iterator[Distribution]:
    """Yield these distributions of this environment and all that they require, once each.

    An AssertionError tells of one whose version is not what is required of it.
    """
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        found = distribution(wanted.name)
        assert wanted.specifier.contains(found.version, prereleases=True), wanted
        for extra in ("", *wanted.extras):
            if (wanted.name, extra) in done:
                continue
            if not any(name == wanted.name for name, _ in done):
                yield found
            done.add((wanted.name, extra))
            for line in found.requires or ():
                deeper = Requirement(line)
                if deeper.marker is None or deeper.marker.evaluate({"extra": extra}):
                    waiting.append(deeper)


def wheelhouse(folder: Path, *names: str, absent: tuple[str, ...] = ()) -> dict[str, str]:
    """Fill a folder with wheels of these and what they require; return variables that pip needs.

    `absent` are packages that this environment lacks: pip downloads them. The variables also keep
    pip from compiling.
    """
    folder.mkdir()
    for found in closure(*names):
        if found.name != "videre-server":  # installed as a folder, which is no wheel
            _pack(found, folder)
    if absent:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *absent]
        subprocess.run(command, cwd=folder, check=True, timeout=SECONDS)
    # Compiling all that is installed would take pip most of its time, and most is never imported:
    # Python compiles what is.
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_COMPILE": "0"}


def _pack(packed: Distribution, folder: Path) -> None:
    """Pack a distribution's files, without the programs and caches that pip makes again."""
    files = [file for file in packed.files or () if _is_packed(file)]
    (info,) = {file.parts[0] for file in files if file.parts[0].endswith(".dist-info")}
    name = packed.name.replace("-", "_")
    path = folder / f"{name}-{packed.version}-{_tag(packed)}.whl"
    record = f"{info}/RECORD"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in files:
            wheel.write(str(packed.locate_file(file)), str(file))
        wheel.writestr(record, "".join(f"{file},,\n" for file in [*files, record]))


def _is_packed(file: PackagePath) -> bool:
    in_info = file.parts[0].endswith(".dist-info")
    made = ".." in file.parts or "__pycache__" in file.parts
    return not made and not (in_info and file.name in _OF_PIP)


def _tag(packed: Distribution) -> str:
    """Return the tag of a distribution's wheel, which may stand for several."""
    tags = re.findall(r"^Tag: (\S+)", packed.read_text("WHEEL") or "", re.MULTILINE)
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)
