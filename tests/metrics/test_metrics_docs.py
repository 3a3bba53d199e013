"""docs/operations.md lists every metric, and docs/grafana.json uses only those."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql
import pytest
from aiohttp import web
from documents import Block, run_python, runs, sections
from inprocess import serving
from metering import exposed, metered
from process import ROOT
from prometheus_client.parser import text_string_to_metric_families

from videre import tally
from videre.reasons import LeaveReason

(TEXT,) = [each for each in sections("docs/operations.md") if "\n| `videre_sessions` |" in each]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs" / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|(.*?)\| (.+) \|$", re.M)
VARIABLES = [each["name"] for each in DASHBOARD["templating"]["list"]]

#: What Prometheus adds to every sample.
TARGET = {"instance", "job"}

#: Samples of a server that has had traffic: by name, the labels of each.
Samples = dict[str, list[dict[str, str]]]


def documented() -> dict[str, tuple[str, set[str]]]:
    """Return the table: type and labels by name."""
    return {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in ROW.findall(TEXT)
    }


async def traffic() -> str:
    """Return the exposition of a server after some traffic."""
    async with metered() as meter:
        a, b = await meter.server.members("a", "b")
        await a.send("broadcast", "a", "room", "hello")
        await b.heard()
        await a.say("nonsense")
        await a.heard()
        return await meter.text()


@pytest.fixture
async def samples() -> Samples:
    """Return the samples of such a server."""
    found: Samples = {}
    for family in text_string_to_metric_families(await traffic()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


async def test_every_metric_is_in_the_table_and_the_other_way_round() -> None:
    """With its name, type and labels."""
    found = {}
    text = await traffic()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
        labels = set(re.findall(rf"^{name}(?:_bucket)?{{(.*)}}", text, re.M))
        names = {each for one in labels for each in re.findall(r'(\w+)="', one)}
        found[name] = (kind, names - {"le"})
    assert len(found) > 30
    assert found == documented()


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("videre_sessions", tally.TRANSPORTS),
        ("videre_connections_refused_total", tally.REFUSALS),
        ("videre_leaves_total", tuple(LeaveReason)),
        ("videre_resumes_total", tally.RESUME_RESULTS),
        ("videre_engine_step_seconds", tally.STEPS),
        ("videre_packets_total", ("received", "sent", tally.OTHER)),
    ],
)
def test_the_table_names_every_value(metric: str, values: tuple[str, ...]) -> None:
    """Each label value is in its row."""
    (meaning,) = [row[3] for row in ROW.findall(TEXT) if row[0] == metric]
    assert [value for value in values if f"`{value}`" not in meaning] == []


@runs("docs/operations.md", "metrics.routes")
async def test_the_example_serves_metrics(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example works as it stands."""
    apps: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", lambda app, port: apps.append(app))
    run_python(block)
    async with serving(apps[0]) as server:
        assert await server.members("a")
        text, _ = await exposed(f"{server.url}/metrics")
        assert 'videre_joins_total{prefix="/echo"} 1.0' in text


def expressions() -> list[str]:
    """Return the alarms of the table and every query of the dashboard."""
    alarms = re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", TEXT, re.M)  # two columns
    assert len(alarms) > 5
    return [*alarms, *(target["expr"] for panel in PANELS for target in panel["targets"])]


def parsed(expression: str) -> promql.Expr:
    """Parse a query as Prometheus does; Grafana would insert the duration."""
    return promql.parse(expression.replace("$__rate_interval", "5m"))


def within(node: Any) -> Iterator[Any]:
    """Yield an expression and all its parts."""
    yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from within(part)
    for part in getattr(node, "args", ()):
        yield from within(part)


def selectors(node: Any) -> list[Any]:
    """Return the series that an expression selects."""
    return [each for each in within(node) if isinstance(each, promql.VectorSelector)]


def check(expression: str, samples: Samples) -> None:
    """Check names, labels and values, that only counters are rated, that quantiles keep `le`."""
    tree = parsed(expression)
    assert selectors(tree)
    for series in selectors(tree):
        assert series.name in samples, series.name
        labels = samples[series.name]
        for matcher in series.matchers.matchers:
            assert matcher.name in {*labels[0], *TARGET}, matcher.name
            if matcher.value.startswith("$"):
                assert matcher.value == f"${matcher.name}"
                assert matcher.op == promql.MatchOp.Re  # of which several may be chosen
                assert matcher.name in VARIABLES
            else:
                values = {each[matcher.name] for each in labels}
                assert set(matcher.value.split("|")) <= values, matcher.value
    for node in within(tree):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            (inner,) = selectors(node.expr)
            assert set(node.modifier.labels) <= {*samples[inner.name][0], *TARGET}, inner.name
        if isinstance(node, promql.Call) and node.func.name == "rate":
            (inner,) = selectors(node)
            gauge = inner.name.startswith("videre_room_members")
            assert inner.name.endswith(("_total", "_bucket", "_count")) and not gauge, inner.name
        if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
            sums = [each for each in within(node) if isinstance(each, promql.AggregateExpr)]
            assert all(each.modifier and "le" in each.modifier.labels for each in sums)


@pytest.mark.parametrize("expression", expressions())
async def test_a_query_asks_for_what_there_is(expression: str, samples: Samples) -> None:
    """Its names, labels and values are those of a real server."""
    check(expression, samples)


@pytest.mark.parametrize(
    "expression",
    [
        "1",
        "sum(rate(videre_joins_total))",
        "sum(rate(videre_joins[5m]))",
        "rate(videre_rooms[5m])",
        "rate(videre_room_members_bucket[5m])",
        "sum by (event) (rate(videre_joins_total[5m]))",
        'rate(videre_leaves_total{event="ping"}[5m])',
        'rate(videre_leaves_total{reason="silence"}[5m])',
        'rate(videre_leaves_total{reason="$reason"}[5m])',
        'rate(videre_leaves_total{instance="$instance"}[5m])',
        "histogram_quantile(0.9, sum by (prefix) (rate(videre_relay_seconds_bucket[5m])))",
    ],
)
async def test_a_wrong_query_is_found(expression: str, samples: Samples) -> None:
    """A wrong syntax, name, label, value or operation."""
    with pytest.raises((ValueError, AssertionError)):
        check(expression, samples)


def test_counters_are_rated() -> None:
    """An unrated counter would draw a line that only rises."""
    for expression in expressions():
        tree = parsed(expression)
        rated = [
            series.name
            for node in within(tree)
            if isinstance(node, promql.Call) and node.func.name == "rate"
            for series in selectors(node)
        ]
        plain = [series.name for series in selectors(tree)]
        for name in rated:
            plain.remove(name)
        assert not [name for name in plain if name.endswith(("_total", "_count"))], expression


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows(panel: dict[str, Any], samples: Samples) -> None:
    """Title, description, unit, the chosen data source, and legends of existing labels."""
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for number, target in enumerate(panel["targets"]):
        source = {"type": "prometheus", "uid": "${datasource}"}
        assert panel["datasource"] == target["datasource"] == source
        assert target["refId"] == chr(ord("A") + number)
        kept = {
            label
            for node in within(parsed(target["expr"]))
            if isinstance(node, promql.AggregateExpr) and node.modifier is not None
            for label in node.modifier.labels
        }
        aggregates = [
            node
            for node in within(parsed(target["expr"]))
            if isinstance(node, promql.AggregateExpr)
        ]
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert target["legendFormat"]
        assert named <= (kept if aggregates else {"instance"}), target


def test_the_dashboard_can_be_imported() -> None:
    """Its panels have ids and places, its variables a source."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["schemaVersion"] >= 41
    assert VARIABLES == ["datasource", "instance", "prefix"]
    assert "id" not in DASHBOARD  # which Grafana gives
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


async def test_the_variables_ask_for_what_there_is(samples: Samples) -> None:
    """Instances and prefixes."""
    for variable in DASHBOARD["templating"]["list"][1:]:
        query = variable["query"]["query"]
        (series, label) = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()  # type: ignore[union-attr]
        (selector,) = selectors(parsed(series))
        assert label == variable["name"]
        assert label in {*samples[selector.name][0], *TARGET}


async def test_every_metric_of_ours_is_drawn(samples: Samples) -> None:
    """Except those that other panels show better."""
    drawn = {
        series.name
        for panel in PANELS
        for target in panel["targets"]
        for series in selectors(parsed(target["expr"]))
    }
    missing = {
        name
        for name in documented()
        if name.startswith("videre_") and not any(each.startswith(name) for each in drawn)
    }
    assert missing == {"videre_build_info", "videre_room_members_gcount"}
