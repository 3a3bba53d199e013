"""bin/docs: the documentation builds without a warning, is searchable, and needs no other host."""

from __future__ import annotations

import functools
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import Browser
from documents import DOCUMENTS
from process import ROOT

sys.path.append(str(ROOT / "bin"))
import openapi_page
import site_builder as site

from videre.config.schema import SCHEMA

pytestmark = [pytest.mark.process, pytest.mark.long]

API = json.loads(site.API.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Build below the test's folder."""
    build = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "BUILD", build)
        patch.setattr(site, "PAGES", build / "docs")
        patch.setattr(site, "HTML", build / "html")
        yield patch


@pytest.fixture(scope="module")
def built(folders: pytest.MonkeyPatch) -> Path:
    """Build the site; return its folder."""
    site.build()
    return site.HTML


def page_of(path: Path) -> str:
    """Return the page of a document."""
    return str(site.pages()[path.relative_to(ROOT)].with_suffix(".html"))


def test_every_document_is_a_page(built: Path) -> None:
    """Each is also there as Markdown, for llms.txt."""
    for path in DOCUMENTS:
        page = built / page_of(path)
        assert page.is_file() and page.with_suffix(".md").is_file(), path
    assert (built / "admin-api.html").is_file()


def test_the_index_for_models(built: Path) -> None:
    """llms.txt has the format of llmstxt.org, and each link leads to a page in Markdown."""
    lines = (built / "llms.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and lines[2].startswith("> ")
    links = [re.fullmatch(r"- \[(.+)\]\((.+\.md)\): .{20,}", line) for line in lines[4:]]
    found = [match[2] for match in links if match]
    assert len(found) == sum(line.startswith("- ") for line in lines) == len(set(found))
    assert len(found) > len(DOCUMENTS)
    assert all((built / path).is_file() for path in found)


def test_the_index_for_readers(built: Path) -> None:
    """The search knows every page, and every key of the configuration."""
    items = json.loads((built / "search.json").read_text(encoding="utf-8"))["items"]
    places = {item["location"].partition("#")[0] for item in items}
    assert {page_of(path) for path in DOCUMENTS} - {"index.html"} <= places
    text = " ".join(item["text"] for item in items if "configuration" in item["location"])
    assert [key for key in SCHEMA if key not in text] == []


def test_the_api_is_rendered(built: Path) -> None:
    """It shows each operation with its parameters and answers, and each schema."""
    text = openapi_page.page(site.API)
    for path, item in API["paths"].items():
        for method, operation in item.items():
            part = text.partition(f"### {method.upper()} {path}\n")[2].partition("\n### ")[0]
            assert operation["summary"] in part
            assert all(f"| {status} | " in part for status in operation["responses"])
    for name, schema in API["components"]["schemas"].items():
        part = text.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert all(f"| `{field}` | " in part for field in schema.get("properties", ()))
    html = (built / "admin-api.html").read_text(encoding="utf-8")
    assert all(f'id="{name.lower()}"' in html for name in API["components"]["schemas"])


def test_the_schema_and_other_files_are_there(built: Path) -> None:
    """Files that pages link to are part of the site, even those outside docs/."""
    for name in ("videre.schema.json", "nginx.conf", "files/compose.yaml", "files/Containerfile"):
        assert (built / name).is_file()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def url(built: Path) -> Iterator[str]:
    """Serve the site."""
    handler = functools.partial(_Quiet, directory=built)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_reader_searches(url: str, browser: Browser) -> None:
    """In a browser, a key is found, and no other host is asked for anything."""
    page = await browser.open(f"{url}/index.html", devices=False, ready=False)
    asked = await page.drive(
        """
        const asked = [];
        page.on("request", (request) => asked.push(request.url()));
        await page.reload();
        await page.locator(".md-search__button").click();
        await page.getByRole("combobox", { name: "Search" }).pressSequentially("NodeTimeout");
        await page.getByText("What happens when something fails").first().waitFor();
        return asked;
        """
    )
    assert len(asked) > 3 and all(each.startswith((url, "data:", "blob:")) for each in asked)


# Faults are found.


@pytest.fixture
def pages(folders: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Give a repository of two pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "ROOT", tmp_path)
        patch.setattr(site, "CONF", tmp_path / "docs" / "mkdocs.yml")
        patch.setattr(site, "BUILD", tmp_path / "build")
        patch.setattr(site, "PAGES", tmp_path / "build" / "docs")
        patch.setattr(site, "HTML", tmp_path / "build" / "html")
        (tmp_path / "docs").mkdir()
        (tmp_path / "README.md").write_text("# One\n\nTo [two](docs/two.md).\n")
        (tmp_path / "docs" / "two.md").write_text("# Two\n\nTo [one](../README.md#one).\n")
        navigation([{"One": "index.md"}, {"Two": "two.md"}, {"API": "admin-api.md"}])
        yield tmp_path


def navigation(nav: list[dict[str, Any]]) -> None:
    """Write the site's configuration."""
    conf = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8"))
    del conf["extra_css"]
    site.CONF.write_text(yaml.safe_dump({**conf, "nav": nav}))


@pytest.fixture(autouse=True)
def short_api(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Leave out the API's page in a site of two pages, because it links to others."""
    if "pages" in request.fixturenames:
        monkeypatch.setattr(openapi_page, "page", lambda _: "# API\n\nNothing.\n")


def test_two_good_pages(pages: Path) -> None:
    """They build, so that the faults of the next tests are the only ones."""
    site.build()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a](three.md)", "three.md: there is no such file"),
        ("[a](../nothing.txt)", "nothing.txt: there is no such file"),
        ("[a](../README.md#three)", "anchor"),
        ("![a](none.png)", "none.png: there is no such file"),
        ("![a](https://example.com/a.png)", "loads from another host"),
    ],
)
def test_a_bad_page(pages: Path, text: str, words: str) -> None:
    """Broken links, and resources from another host, are errors."""
    with (pages / "docs" / "two.md").open("a") as file:
        file.write(f"\n{text}\n")
    with pytest.raises(site.SiteError, match=re.escape(words)):
        site.build()


@pytest.mark.parametrize(
    ("nav", "words"),
    [
        ([{"One": "index.md"}, {"API": "admin-api.md"}], "two.md: not in the navigation"),
        ([{"One": "index.md"}, {"Two": "three.md"}], "three.md: in the navigation, but no page"),
        ([{"One": "index.md"}, {"Two": "two.md"}, {"More": "two.md"}], "twice in the navigation"),
    ],
)
def test_a_bad_navigation(pages: Path, nav: list[dict[str, Any]], words: str) -> None:
    """Each page must be in it exactly once."""
    navigation(nav)
    with pytest.raises(site.SiteError, match=re.escape(words)):
        site.build()
