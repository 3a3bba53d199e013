"""Build the documentation site from README.md, docs/ and the other pages, as they are.

The pages are copied below build/site, where links to files of the repository become links within
the site. Zensical builds them; any warning, such as a broken link, is an error. The result,
build/site/html, needs no other host: it loads nothing from elsewhere, and includes its search.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openapi_page
import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "site"
PAGES, HTML = BUILD / "docs", BUILD / "html"
CONF = ROOT / "docs" / "mkdocs.yml"
API = ROOT / "videre" / "admin" / "openapi.json"

_FENCE = re.compile(r" *(`{3,}|~{3,})")
_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))|(?<=src=\")([^\":]+)(?=\")")
_LOADED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=\"?(https?:)?//")


class SiteError(Exception):
    """Something is wrong with the pages; the text says what and where."""


def pages() -> dict[Path, Path]:
    """Return the pages, paths in the repository to paths in the site."""
    found = {Path("README.md"): Path("index.md")}
    for path in sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")):
        source = path.relative_to(ROOT)
        found.setdefault(source, Path(*source.parts[source.parts[0] == "docs" :]))
    for pattern in ("examples/*/README.md", "tests/fuzz/README.md", "videre/browser/README.md"):
        for path in sorted(ROOT.glob(pattern)):
            source = path.relative_to(ROOT)
            found[source] = source.parent.with_suffix(".md")
    return found


def stage() -> list[Path]:
    """Copy the pages and all that they link to; return the paths of the pages in the site."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.md", "mkdocs.yml"))
    known = pages()
    for source, page in known.items():
        target = PAGES / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_translated(source, page, known), encoding="utf-8")
    (PAGES / "admin-api.md").write_text(openapi_page.page(API), encoding="utf-8")
    return [*known.values(), Path("admin-api.md")]


def _translated(source: Path, page: Path, known: dict[Path, Path]) -> str:
    """Return a page's text with its links to files of the repository made links of the site."""

    def link(match: re.Match[str]) -> str:
        name, anchor = match[1] or match[3], match[2] or ""
        wanted = Path(os.path.normpath(source.parent / name))
        if (ROOT / wanted).is_dir():  # its page, or the first of its pages
            inside = [page for page in known if wanted in page.parents]
            own = wanted / "README.md"
            wanted = own if own in known else min(inside, default=wanted)
        if wanted in known:
            place = known[wanted]
        elif (ROOT / wanted).is_file():
            place = wanted.relative_to("docs") if wanted.parts[0] == "docs" else "files" / wanted
            (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / wanted, PAGES / place)
        else:
            raise SiteError(f"{source}: {name}: there is no such file to link to")
        return os.path.relpath(place, page.parent) + anchor

    lines, fence = [], ""
    for line in (ROOT / source).read_text(encoding="utf-8").splitlines():
        if (mark := _FENCE.match(line)) and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
        lines.append(line if fence else _LINK.sub(link, line))
    return "\n".join(lines) + "\n"


def navigation(entries: list[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the pages of the navigation: section, title and path."""
    for entry in entries:
        ((title, inner),) = entry.items()
        if isinstance(inner, str):
            yield "", title, inner
        else:
            yield from ((title, each, path) for _, each, path in navigation(inner))


def expand(conf: dict[str, Any], staged: list[Path]) -> None:
    """Replace each folder in the navigation by its pages, under their own titles."""

    def title(page: Path) -> str:
        return (PAGES / page).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")

    def pages_of(inner: Any) -> Any:
        if isinstance(inner, list):
            return [{key: pages_of(each) for key, each in entry.items()} for entry in inner]
        if inner.endswith("/"):
            within = [page for page in staged if f"{page.parent}/" == inner]
            return [{title(page): str(page)} for page in sorted(within)]
        return inner

    conf["nav"] = pages_of(conf["nav"])


def check_navigation(conf: dict[str, Any], staged: list[Path]) -> None:
    """Require each page once; raises SiteError."""
    named = [path for _, _, path in navigation(conf["nav"])]
    there = {str(path) for path in staged}
    faults = [f"{path}: not in the navigation" for path in sorted(there - set(named))]
    faults += [f"{path}: in the navigation, but no page" for path in sorted(set(named) - there)]
    faults += [f"{path}: twice in the navigation" for path in set(named) if named.count(path) > 1]
    if faults:
        raise SiteError("\n".join(f"docs/mkdocs.yml: {fault}" for fault in faults))


def summary(text: str) -> str:
    """Return the first sentence of a page, or more of them if it says little."""
    for paragraph in _BLOCK.sub("", text).split("\n\n"):
        words = " ".join(paragraph.split())
        if words and not words.startswith(("#", "<", "|", "-", "!")):
            plain = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", words)
            said = re.match(r".{30,}?(?=\.\s|$)|.+", plain)
            return said[0].rstrip(":.") + "." if said else plain
    raise SiteError(f"a page without a sentence: {text[:60]!r}")


def index(conf: dict[str, Any]) -> str:
    """Return llms.txt: what this is, and each page with its first sentence.

    Its links are to the pages as Markdown, relative, since the site's address is its owner's.
    """
    lines = [f"# {conf['site_name']}", "", f"> {conf['site_description']}"]
    last = None
    for section, title, path in navigation(conf["nav"]):
        if section != last:
            lines += ["", f"## {section or 'Start'}", ""]
            last = section
        words = summary((PAGES / path).read_text(encoding="utf-8"))
        lines.append(f"- [{title}]({path}): {words}")
    return "\n".join(lines) + "\n"


def check_hosts() -> None:
    """Require that no page loads anything from another host; raises SiteError."""
    for path in sorted(HTML.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        if (found := _LOADED.search(text)) is not None:
            raise SiteError(f"{path}: loads from another host: {found[0]}")


def build() -> None:
    """Build the site; raises SiteError."""
    conf = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    staged = stage()
    expand(conf, staged)
    check_navigation(conf, staged)
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(conf, sort_keys=False), encoding="utf-8")
    program = Path(sys.executable).with_name("zensical")
    command = [
        str(program),
        "build",
        "--strict",
        "--clean",
        "--config-file",
        str(BUILD / "mkdocs.yml"),
    ]
    done = subprocess.run(  # noqa: S603  (it is our own)
        command, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        said = done.stdout.split("Traceback (most recent call last)")[0]
        raise SiteError(said)
    for page in staged:
        (HTML / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PAGES / page, HTML / page)
    (HTML / "llms.txt").write_text(index(conf), encoding="utf-8")
    check_hosts()
    print(f"{len(staged)} pages in {HTML}")


def serve() -> None:
    """Show the site on a free port of this machine, until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=HTML)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/")
        server.serve_forever()


if __name__ == "__main__":
    try:
        build()
        if "--serve" in sys.argv[1:]:
            serve()
    except SiteError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        pass
