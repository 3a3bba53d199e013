"""Check a release: version, wheel, sdist, licences, bill of materials, workflow.

Each step is a function that returns what it found, in words, or raises Fault.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
DIST, CLEAN, SBOM = BUILD / "dist", BUILD / "clean", BUILD / "sbom.json"
LICENCES = ROOT / "docs" / "licences.md"
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
OURS = "videre-server"
EXTRAS = "call,lan,redis"  # what users install

#: Licences that let the package be used with MIT code, in any product.
COMPATIBLE = re.compile(
    r"\b(MIT|BSD|ISC|PSF|Apache|Python Software Foundation|Mozilla Public|MPL-2\.0|0BSD|Zlib"
    r"|Unlicense)\b",
    re.IGNORECASE,
)
_PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")


class Fault(Exception):
    """A step found something wrong; the text says what."""


class NotDone(Exception):
    """A step could not find anything out; the text says why."""


def run(*command: str | Path, cwd: Path = ROOT, **options: Any) -> str:
    """Return what a command prints; raises Fault with its output if it fails."""
    done = subprocess.run(  # noqa: S603  (our own programs)
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        raise Fault(f"{' '.join(map(str, command))}\n{done.stdout}")
    return str(done.stdout)


def program(name: str) -> Path:
    """Return a program of this environment."""
    return Path(sys.executable).with_name(name)


@cache
def version() -> str:
    """Return the version that the package has."""
    names: dict[str, str] = {}
    exec((ROOT / "videre" / "version.py").read_text(encoding="utf-8"), names)  # noqa: S102
    return names["__version__"]


def versions() -> str:
    """Compare the version with all places that repeat it."""
    chart = yaml.safe_load((ROOT / "charts/videre/Chart.yaml").read_text(encoding="utf-8"))
    package = json.loads((ROOT / "videre/browser/package.json").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+) \((.*)\)$", changes, re.MULTILINE)
    found = {
        "CHANGELOG.md": first and first[1],
        "charts/videre/Chart.yaml version": chart["version"],
        "charts/videre/Chart.yaml appVersion": chart["appVersion"],
        "videre/browser/package.json": package["version"],
    }
    wrong = [f"{where} has {what}" for where, what in found.items() if what != version()]
    if wrong or first is None:
        raise Fault(f"videre/version.py has {version()}, but {', '.join(wrong)}")
    return f"{version()} ({first[2]}) in {len(found) + 1} places"


def build() -> str:
    """Build the wheel and the sdist."""
    shutil.rmtree(BUILD, ignore_errors=True)
    copy = BUILD / "source"  # so that nothing of a build is left in the repository
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--outdir", DIST, copy)
    files = sorted(DIST.iterdir())
    run(program("twine"), "--no-color", "check", "--strict", *files)
    return ", ".join(path.name for path in files)


def contents(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel, but for those about it."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}


def wheel() -> str:
    """Compare the wheel with the package of the repository."""
    (path,) = DIST.glob("*.whl")
    found, names = contents(path), run("git", "ls-files", "videre").split()
    if set(found) != set(names):
        raise Fault(f"{path.name}: differs in {sorted(set(found) ^ set(names))}")
    wrong = [name for name in names if found[name] != (ROOT / name).read_bytes()]
    if wrong:
        raise Fault(f"{path.name}: not what is in the repository: {wrong}")
    # W002 is files with the same content: the browser client, an npm package, has the licence too.
    run(program("check-wheel-contents"), "--ignore", "W002", path)
    return f"{len(found)} files, as in the repository"


def sdist(python: Path) -> str:
    """Build the wheel from the sdist, and run its fast tests there with this Python.

    Tests of cost are left to the repository.
    """
    (path,) = DIST.glob("*.tar.gz")
    folder = BUILD / "unpacked"
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--outdir", BUILD / "again", source)
    (first,), (second,) = DIST.glob("*.whl"), (BUILD / "again").glob("*.whl")
    if contents(first) != contents(second):
        raise Fault(f"{path.name} builds another wheel than the repository")
    where = run(python, "-c", "import videre; print(videre.__file__)", cwd=source)
    if not Path(where.strip()).is_relative_to(source):
        raise Fault(f"its tests would test {where.strip()}")
    said = run(
        *(python, "-m", "pytest", "-q", "-n", "4", "--dist", "loadfile"),
        *("--fast", "--ignore-glob=*growth*"),
        cwd=source,
    )
    name = run(python, "--version").strip()
    return f"builds the same wheel; its tests on {name}: {said.strip().splitlines()[-1]}"


def clean() -> str:
    """Install the wheel and what users need into a new environment, and start it there."""
    (path,) = DIST.glob("*.whl")
    run(sys.executable, "-m", "venv", CLEAN)
    run(CLEAN / "bin" / "pip", "install", "--quiet", f"{path}[{EXTRAS}]")
    run(CLEAN / "bin" / "pip", "check")
    run(CLEAN / "bin" / "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools")
    said = run(CLEAN / "bin" / "videre-server", "--version", cwd=BUILD).strip()
    if said != f"{OURS} {version()}":
        raise Fault(f"the installed command says {said}")
    return f"{said} with {len(packages()) - 1} dependencies"


@cache
def packages() -> list[Mapping[str, str]]:
    """Return the installed packages: Name, Version and License of each."""
    said = run(
        *(program("pip-licenses"), "--python", CLEAN / "bin" / "python"),
        *("--format", "json", "--from", "mixed", "--with-system"),
    )
    found: list[Mapping[str, str]] = json.loads(said)
    return [each for each in found if each["Name"] not in ("pip", "setuptools")]


def licences() -> str:
    """Require that each dependency's licence is compatible, and that the list is up to date."""
    wrong = [
        f"{each['Name']}: {each['License']}"
        for each in packages()
        if not COMPATIBLE.search(each["License"])
    ]
    if wrong:
        raise Fault("not known to be compatible with MIT: " + "; ".join(wrong))
    # Which packages are needed depends on the version of Python: the list may have more.
    known = set(LICENCES.read_text(encoding="utf-8").splitlines())
    if not set(listed().splitlines()) <= known:
        raise Fault("docs/licences.md is not up to date: bin/release --check --write")
    return f"{len(packages()) - 1} packages, all compatible"


def listed() -> str:
    """Return docs/licences.md: without versions, which each installation chooses."""
    rows = [
        f"| {each['Name']} | {_short(each['License'])} |"
        for each in sorted(packages(), key=lambda each: each["Name"].lower())
        if each["Name"] != OURS
    ]
    return f"""# Licences

videre-server has the MIT licence. These are the packages that are installed with it and its extras
`call`, `lan` and `redis`, and the licence that each one declares. `bin/release --check` compares
this list with an installation, and refuses a licence that it does not know to be compatible.

| package | licence |
|---|---|
{chr(10).join(rows)}
"""


def _short(licence: str) -> str:
    """Return a licence for the list; some packages give its whole text."""
    first = licence.strip().splitlines()[0].strip()
    return first.replace("|", "\\|")


def sbom() -> str:
    """Write the bill of materials in CycloneDX, of what is installed; it is validated."""
    run(
        *(program("cyclonedx-py"), "environment", CLEAN / "bin" / "python"),
        *("--output-format", "JSON", "--output-file", SBOM, "--output-reproducible", "--validate"),
    )
    document = json.loads(SBOM.read_text(encoding="utf-8"))
    names = {each["name"].lower() for each in document["components"]}
    missing = {each["Name"].lower() for each in packages()} - names
    if missing:
        raise Fault(f"{SBOM.name} has no {', '.join(sorted(missing))}")
    return f"{document['bomFormat']} {document['specVersion']}, {len(names)} components"


def audit() -> str:
    """Ask for known vulnerabilities of what is installed, where the service can be reached."""
    (site,) = CLEAN.glob("lib/python3*/site-packages")
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    done = subprocess.run(  # noqa: S603
        [program("pip-audit"), "--path", site, *options], capture_output=True, text=True
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise NotDone(
            f"the service of vulnerabilities cannot be reached ({reason[:120]})"
        ) from None
    bad = [f"{each['name']}: {one['id']}" for each in found for one in each.get("vulns", ())]
    if bad:
        raise Fault("known vulnerabilities: " + ", ".join(bad))
    skipped = [each for each in found if "skip_reason" in each and each["name"] != OURS]
    if skipped:
        raise NotDone(f"the service knows nothing of {len(skipped)} of {len(found)} packages")
    return f"no known vulnerability in {len(found)} packages"


def workflow() -> str:
    """Check the workflow: its schema, what zizmor finds, and that its actions are pinned."""
    run(program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", WORKFLOW)
    run(program("zizmor"), "--offline", "--no-progress", WORKFLOW)
    run(program("pre-commit"), "validate-config")
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    loose = [each for each in used if not _PINNED.fullmatch(each)]
    if loose:
        raise Fault(f"not pinned to a commit: {', '.join(loose)}")
    return f"{len(jobs)} jobs, {len(used)} uses of pinned actions"


def steps(python: Path) -> dict[str, Callable[[], str]]:
    """Return the steps by their names, in order; the sdist's tests run with this Python."""
    return {
        "versions": versions,
        "build": build,
        "wheel": wheel,
        "sdist": partial(sdist, python),
        "clean": clean,
        "licences": licences,
        "sbom": sbom,
        "audit": audit,
        "workflow": workflow,
    }


def main() -> int:
    """Run the steps until one fails; return the exit code."""
    parser = argparse.ArgumentParser(prog="bin/release", description=__doc__)
    parser.add_argument("--check", action="store_true", required=True, help="run all steps")
    parser.add_argument(
        "--write", action="store_true", help="write docs/licences.md as it should be"
    )
    parser.add_argument("--audit", action="store_true", help="fail if nothing could be audited")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        metavar="PROGRAM",
        help="run the sdist's tests with this Python, which has what the extra `test` needs",
    )
    options = parser.parse_args()
    python = options.python.absolute()  # it may be a link into an environment: not resolved
    for name, step in steps(python).items():
        if name == "licences" and options.write:
            LICENCES.write_text(listed(), encoding="utf-8")
        try:
            print(f"{name:10}{step()}", flush=True)
        except NotDone as why:
            print(f"{name:10}NOT DONE: {why}", flush=True)
            if options.audit:
                return 1
        except Fault as fault:
            print(f"{name:10}FAILED: {fault}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
