"""The published package: its content, its metadata, and a clean installation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import aiohttp
import pytest
from fakes import packet
from packaging.metadata import Metadata
from patience import WAIT_SECONDS, patient
from process import ROOT, Signaller, execute
from wheelhouse import closure

from videre.version import __version__

pytestmark = [pytest.mark.process, pytest.mark.long]

SOURCES = ("videre", "setup.cfg", "setup.py", "README.md", "LICENSE", "CHANGELOG.md")
BUILD = """
from setuptools import build_meta
build_meta.build_wheel("dist")
build_meta.build_sdist("dist")
"""
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("*.*") if path.is_file()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel and an sdist from a copy, so that nothing is left in the repository."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy / name)
    done = run(sys.executable, "-W", "error::DeprecationWarning", "-c", BUILD, cwd=copy)
    assert "deprecated" not in done.lower()
    return copy / "dist"


def run(*command: str | Path, cwd: Path) -> str:
    """Return the output of a command, which must succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patient(300),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def only(dist: Path, pattern: str) -> Path:
    """Return the only file of a kind."""
    (path,) = dist.glob(pattern)
    return path


def ours() -> set[str]:
    """Return the files of the package in the repository."""
    files = {path for path in (ROOT / "videre").rglob("*") if path.is_file()}
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package(dist: Path) -> None:
    """All of it, with the Redis scripts, the browser client and py.typed; nothing else."""
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert names == ours()
        for path in names:
            assert wheel.read(path) == (ROOT / path).read_bytes()
    kinds = {Path(name).suffix for name in names} | {Path(name).name for name in names}
    assert {".py", ".lua", ".js", "py.typed"} <= kinds


def test_the_sdist_can_be_built_from(dist: Path) -> None:
    """It contains the package, its metadata and its licence."""
    with tarfile.open(only(dist, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert ours() | {"setup.cfg", "setup.py", "README.md", "LICENSE", "PKG-INFO"} <= names


def metadata(dist: Path) -> Metadata:
    """Return the wheel's metadata; fail if it is invalid."""
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        (name,) = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
        return Metadata.from_email(wheel.read(name), validate=True)


def test_what_it_says_of_itself(dist: Path) -> None:
    """A licence, a description, correct classifiers, and no invented address."""
    said = metadata(dist)
    assert (said.name, str(said.version)) == ("videre-server", __version__)
    assert said.license_expression == "MIT" and said.license_files == ["LICENSE"]
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert said.summary and said.description == TEXTS["README.md"]
    assert str(said.requires_python) == ">=3.11"
    assert said.classifiers and "Typing :: Typed" in said.classifiers
    assert any(each.startswith("Development Status :: ") for each in said.classifiers)
    assert not said.project_urls and not said.home_page  # there is none yet
    assert set(said.provides_extra or ()) >= {"redis", "test", "lint", "bench"}


def test_its_links_lead_to_the_forge(dist: Path) -> None:
    """With README_LINKS, no link and no image of the description is relative; code is as it was."""
    links = "https://forge.example/owner/server/blob/v1.2.3"
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", "dist"]
    environ = {**os.environ, "README_LINKS": links}
    subprocess.run(command, cwd=dist.parent, env=environ, check=True)
    (info,) = dist.glob("*.egg-info")
    said = Metadata.from_email((info / "PKG-INFO").read_bytes(), validate=True).description
    shutil.rmtree(info)
    assert said is not None
    readme = TEXTS["README.md"]
    pattern = re.compile(r'(?<=\]\()[^)]+|(?<=<img src=")[^"]+')
    told = [target if ":" in target else f"{links}/{target}" for target in pattern.findall(readme)]
    found = [target.removesuffix("?raw=true") for target in pattern.findall(said)]
    assert found == told and f'src="{links}/docs/demo.png?raw=true"' in said
    assert pattern.sub("", said) == pattern.sub("", readme)


def test_twine_would_upload_it(dist: Path) -> None:
    """Twine finds no error and no warning."""
    files = sorted(dist.iterdir())
    assert len(files) == 2
    said = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *files, cwd=dist)
    assert said.count("PASSED") == 2


def test_the_version_stands_in_one_place() -> None:
    """videre/version.py; the changelog begins with it, nothing else repeats it."""
    assert re.findall(r"^## (\S+)", TEXTS["CHANGELOG.md"], re.MULTILINE)[0] == __version__
    for path in [*ROOT.glob("*"), *ROOT.glob("docs/*.md"), *ROOT.glob("videre/**/*.py")]:
        if path.is_file() and path.name not in ("CHANGELOG.md", "version.py"):
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not re.search(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])", text), path


def environment(path: Path, *requirements: str) -> Path:
    """Make a virtual environment that has these and what they require; return its programs.

    Clean: what is not required is not there. The files are those of this environment, so that no
    network is needed.
    """
    run(sys.executable, "-m", "venv", "--without-pip", path, cwd=path.parent)
    (packages,) = path.glob("lib/python3*/site-packages")
    for distribution in closure(*requirements):
        for file in distribution.files or ():
            target = packages / file
            source = Path(str(distribution.locate_file(file)))
            # A compiled module may be gone; with its module's time it is good in the copy, too.
            if target.resolve().is_relative_to(packages) and source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    return path / "bin"


@pytest.mark.parametrize(("kind", "builders"), [("*.whl", []), ("*.tar.gz", ["setuptools"])])
async def test_it_installs_clean(
    dist: Path, kind: str, builders: list[str], tmp_path: Path
) -> None:
    """In an environment with only its requirements, it reports its version and serves a call."""
    said = metadata(dist)
    plain = [str(each) for each in said.requires_dist or () if "extra ==" not in str(each)]
    assert len(plain) > 3
    bin = environment(tmp_path / "environment", *plain, *builders)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--python", str(bin / "python"), "install"]
    run(*pip, *options, only(dist, kind), cwd=tmp_path)
    assert run(bin / "videre-server", "--version", cwd=tmp_path) == f"videre-server {__version__}\n"
    assert str(tmp_path) in run(
        *(bin / "python", "-c", "import videre, videre.client; print(videre.__file__)"),
        cwd=tmp_path,
    )
    absent = "import importlib.util as u; print(u.find_spec('pytest'), u.find_spec('redis'))"
    assert run(bin / "python", "-c", absent, cwd=tmp_path) == "None None\n"
    process = await execute(
        *(bin / "videre-server", "--host", "127.0.0.1", "--port", "0"),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    server = Signaller(process)
    try:
        await server.listening()
        await call(server.url)
    finally:
        code = await server.stop()
    assert code == 0, str(server)


async def call(url: str) -> None:
    """Let two users enter a room, and one send to the other."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/websocket") as one,
        http.ws_connect(f"{url}/websocket") as two,
    ):
        for user, socket, role in (("a", one, "true"), ("b", two, "false")):
            await socket.send_str(packet("connect", user, "room"))
            assert (await socket.receive_json(timeout=WAIT_SECONDS))["Payload"] == role
        await two.send_str(packet("broadcast", "b", "room", "Hello"))
        assert (await one.receive_json(timeout=WAIT_SECONDS))["Header"]["UserId"] == "b"
        assert (await one.receive_json(timeout=WAIT_SECONDS))["Payload"] == "Hello"
