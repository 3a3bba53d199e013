"""bin/release --check: the faults that each step finds. CI runs the steps themselves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import Block, runs
from process import ROOT, require
from vendored import conforms

sys.path.append(str(ROOT / "bin"))
import release

pytestmark = pytest.mark.process

DOCUMENT = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
FORMS = ("fault.yml", "wish.yml")


@runs("docs/releasing.md", "bin/release")
def test_the_steps_are_documented(block: Block) -> None:
    """They are in order of execution; the command is the one of CI and of the workflow."""
    steps = re.findall(r"^\| (\w+) \| \S", DOCUMENT, re.MULTILINE)
    assert steps[0] == "step"
    assert steps[1:] == list(release.steps(Path()))
    command = block.text.strip()
    assert command in release.WORKFLOW.read_text(encoding="utf-8")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_versions_agree() -> None:
    """They agree in this repository."""
    assert release.versions().startswith(release.version())


def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the files that repeat the version."""
    for name in (
        *("videre/version.py", "CHANGELOG.md", "charts/videre/Chart.yaml"),
        "videre/browser/package.json",
    ):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(release, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CHANGELOG.md", "CHANGELOG.md has 9.9.9"),
        ("charts/videre/Chart.yaml", "Chart.yaml appVersion has 9.9.9"),
        ("videre/browser/package.json", "package.json has 9.9.9"),
    ],
)
def test_another_version(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A different one anywhere is a fault that names the place."""
    path = copied(tmp_path, monkeypatch) / name
    path.write_text(path.read_text(encoding="utf-8").replace(release.version(), "9.9.9"))
    with pytest.raises(release.Fault, match=re.escape(words)):
        release.versions()


@pytest.mark.parametrize("spoil", ["less", "more", "other"])
def test_a_wheel_that_differs(spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference from the repository, in a name or a byte, is a fault."""
    names = release.run("git", "ls-files", "videre").split()
    files = {name: (ROOT / name).read_bytes() for name in names}
    if spoil == "less":
        files.pop("videre/app.py")
    elif spoil == "more":
        files["videre/secret.txt"] = b""
    else:
        files["videre/app.py"] += b"\n"
    with zipfile.ZipFile(tmp_path / "videre_server-0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    monkeypatch.setattr(release, "DIST", tmp_path)
    with pytest.raises(release.Fault, match=r"videre/(app\.py|secret\.txt)"):
        release.wheel()


@pytest.mark.parametrize(
    ("licence", "good"),
    [
        ("MIT License", True),
        ("BSD-3-Clause", True),
        ("Apache Software License", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("ISC License (ISCL)", True),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("Proprietary", False),
        ("UNKNOWN", False),
        ("LIMITED COMMITMENT LICENCE", False),
    ],
)
def test_a_licence(licence: str, good: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """It is compatible, or a fault that names the package."""
    monkeypatch.setattr(release, "packages", lambda: [{"Name": "pack", "License": licence}])
    monkeypatch.setattr(release, "LICENCES", tmp_path / "licences.md")
    (tmp_path / "licences.md").write_text(release.listed())
    if good:
        assert release.licences().endswith("all compatible")
    else:
        with pytest.raises(release.Fault, match=f"pack: {re.escape(licence)}"):
            release.licences()


def test_an_outdated_list_of_licences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault says how to rewrite the list."""
    monkeypatch.setattr(release, "packages", lambda: [{"Name": "pack", "License": "MIT"}])
    monkeypatch.setattr(release, "LICENCES", tmp_path / "licences.md")
    (tmp_path / "licences.md").write_text("")
    with pytest.raises(release.Fault, match="bin/release --check --write"):
        release.licences()


def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: str, errors: str) -> None:
    """Make pip-audit print this."""
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    monkeypatch.setattr(release, "CLEAN", tmp_path)

    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, stdout=out, stderr=errors)

    monkeypatch.setattr(subprocess, "run", run)


def test_an_unreachable_service_of_vulnerabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported, and not taken for success; neither are packages that it does not know."""
    answers(monkeypatch, tmp_path, "", "ERROR: Connection refused")
    with pytest.raises(release.NotDone, match="Connection refused"):
        release.audit()
    skipped = {"name": "pack", "skip_reason": "Dependency not found"}
    known = {"name": "other", "version": "1", "vulns": []}
    said = json.dumps({"dependencies": [skipped, known]})
    answers(monkeypatch, tmp_path / "again", said, "")
    with pytest.raises(release.NotDone, match="nothing of 1 of 2 packages"):
        release.audit()


def test_a_step_that_was_not_done(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It is printed, and with --audit it is a failure."""

    def audit() -> str:
        raise release.NotDone("no service")

    monkeypatch.setattr(release, "steps", lambda _python: {"audit": audit})
    for options, code in (["--check"], 0), (["--check", "--audit"], 1):
        monkeypatch.setattr(sys, "argv", ["release", *options])
        assert release.main() == code
        assert "NOT DONE: no service" in capsys.readouterr().out


def test_a_vulnerability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is a fault; none is not."""
    found = {"name": "pack", "version": "1", "vulns": [{"id": "PYSEC-1"}]}
    answers(monkeypatch, tmp_path, json.dumps({"dependencies": [found]}), "")
    with pytest.raises(release.Fault, match="pack: PYSEC-1"):
        release.audit()
    good = json.dumps({"dependencies": [{**found, "vulns": []}]})
    answers(monkeypatch, tmp_path / "again", good, "")
    assert release.audit() == "no known vulnerability in 1 packages"


def test_the_owner_is_told_what_the_workflow_needs() -> None:
    """Its environments and variables are in docs/releasing.md; other platforms are emulated."""
    once = DOCUMENT.partition("## Once, by the owner")[2].partition("\n## ")[0]
    source = release.WORKFLOW.read_text(encoding="utf-8")
    jobs = yaml.safe_load(source)["jobs"]
    environments = {job["environment"] for job in jobs.values() if "environment" in job}
    needed = environments | set(re.findall(r"\bvars\.(\w+)", source))
    assert needed == {"pypi", "npm", "image", "IMAGE", "IMAGE_REGISTRY"}
    assert [each for each in needed if f"`{each}`" not in once] == []
    uses = [step.get("uses", "").partition("@")[0] for step in jobs["image"]["steps"]]
    assert uses.index("docker/setup-qemu-action") < uses.index("docker/setup-buildx-action")


def test_the_workflow_tests_every_python() -> None:
    """It tests every version that the package supports, and publishes only after that."""
    jobs = yaml.safe_load(release.WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    classifiers = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    named = set(re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE))
    assert named <= set(jobs["test"]["strategy"]["matrix"]["python"])
    for name in ("pypi", "npm", "image"):
        assert jobs[name]["needs"] == "test" and jobs[name]["environment"]
        assert jobs[name]["permissions"]["id-token"] == "write"
    assert "secrets." not in release.WORKFLOW.read_text(encoding="utf-8")
    steps = [step for job in jobs.values() for step in job["steps"]]
    for step in steps:
        assert "run" in step or release._PINNED.fullmatch(step["uses"]), step


def test_the_description_links_to_the_tag() -> None:
    """The workflow builds with the variable that setup.py reads (tests/house/test_package.py)."""
    steps = yaml.safe_load(release.WORKFLOW.read_text(encoding="utf-8"))["jobs"]["build"]["steps"]
    (build,) = [step for step in steps if step.get("run", "").startswith("bin/release")]
    ((name, links),) = build["env"].items()
    assert f'os.environ.get("{name}")' in (ROOT / "setup.py").read_text(encoding="utf-8")
    github = {"server_url": "https://example.com", "repository": "owner/server", "ref_name": "v1"}
    links = re.sub(r"\$\{\{ github\.(\w+) \}\}", lambda match: github[match[1]], links)
    assert links == "https://example.com/owner/server/blob/v1"


def test_the_npm_package_names_its_repository(tmp_path: Path) -> None:
    """It does before it is published: npm compares it with the repository in the provenance."""
    jobs = yaml.safe_load(release.WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    *before, last = [step for step in jobs["npm"]["steps"] if "run" in step]
    assert last["run"].startswith("npm publish --provenance ")
    require("npm")
    folder = last["working-directory"]
    copy = shutil.copytree(ROOT / folder, tmp_path / folder)
    forge = {"GITHUB_SERVER_URL": "https://example.com", "GITHUB_REPOSITORY": "owner/server"}
    for step in before:
        assert step["working-directory"] == folder
        release.run("bash", "-euc", step["run"], cwd=copy, env={**os.environ, **forge})
    manifest = json.loads((copy / "package.json").read_text(encoding="utf-8"))
    url = "git+https://example.com/owner/server.git"
    assert manifest.pop("repository") == {"type": "git", "url": url, "directory": folder}
    assert manifest == json.loads((ROOT / folder / "package.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*FORMS, "config.yml"])
def test_the_forms_for_issues(name: str) -> None:
    """The forge accepts them."""
    kind = "github-issue-config" if name == "config.yml" else "github-issue-forms"
    conforms(ROOT / ".github" / "ISSUE_TEMPLATE" / name, kind)


def test_the_hooks_before_a_commit() -> None:
    """They run bin/lint's programs and the documents' checks, on existing files."""
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (local,) = yaml.safe_load(text)["repos"]
    assert local["repo"] == "local"
    entries = {hook["id"]: hook["entry"] for hook in local["hooks"]}
    lint = (ROOT / "bin" / "lint").read_text(encoding="utf-8")
    for name in ("ruff", "ruff-format", "codespell", "mypy"):
        words = entries[name].split()
        assert " ".join(word for word in words if word != "--force-exclude") in lint
    tracked = release.run("git", "ls-files").splitlines()
    for hook in local["hooks"]:
        if "files" in hook:
            assert [path for path in tracked if re.search(hook["files"], path)], hook["id"]
    for name in ("reference", "docs"):
        target = entries[name].split()[-1]
        path = target if "/" in target else target.replace(".", "/") + ".py"
        assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    "name", ["SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"]
)
def test_the_files_for_contributors(name: str) -> None:
    """They name only existing files and commands."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)|`((?:bin|tests|docs)/[\w/.-]+)`", text):
        assert (ROOT / (path[0] or path[1])).exists(), path
