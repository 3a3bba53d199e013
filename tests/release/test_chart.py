"""charts/videre, rendered by Helm's own code (helm-python-sdk), against Kubernetes' schemas.

No cluster runs it. PodMonitor and HTTPRoute belong to other projects, whose schemas no reachable
registry has: their fields are compared with the documentation here.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from documents import Block, runs
from helm_python import Chart, chart
from helm_python.errors import HelmError
from process import ROOT, require
from test_container import AFTER_DRAIN, of

from videre.config import environment, load, reference
from videre.version import __version__

FOLDER = ROOT / "charts" / "videre"
NATIVE = {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"}
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()

ONE: dict[str, Any] = {"replicas": 1}
STORE = {"engine": {"secretName": "store"}}
ADMIN = {"enabled": True, "tokenSecretName": "admin", "podMonitor": {"enabled": True}}
ROUTE = {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]}
ALL: dict[str, Any] = {
    **STORE,
    "replicas": 3,
    "config": {
        "Prefix": ["/echo", "/other"],
        "Origins": ["https://www.example.com"],
        "IceServers": [{"Urls": "turn:a", "SecretFile": "/run/secrets/videre/turn"}],
    },
    "secretName": "files",
    "admin": {**ADMIN, "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "route": {**ROUTE, "hostnames": ["calls.example.com"], "sticky": True},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "service": {"annotations": {"e": "f"}},
    "nodeSelector": {"disk": "none"},
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}
VALUES = {"one": ONE, "store": STORE, "all": ALL, "no hook": {**ONE, "preStopSeconds": 0}}


def rendered(values: dict[str, Any], name: str = "calls") -> dict[str, dict[str, Any]]:
    """Return the objects of a release, by kind."""
    found: dict[str, dict[str, Any]] = {}
    with Chart.load(FOLDER) as loaded:
        loaded.validate_schema(values)
        texts = loaded.render(values, name=name)
    for path, text in texts.items():
        if not path.endswith("NOTES.txt") and (document := yaml.safe_load(text)):
            assert document["kind"] not in found
            found[document["kind"]] = document
    return found


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_finds_nothing_wrong(values: dict[str, Any]) -> None:
    """`helm lint --strict` would pass; it only recommends an icon."""
    report = chart.lint(FOLDER, values, strict=True)
    assert report["total_charts_linted"] == 1 and report["errors"] == []
    assert {each["error"] for each in report["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_kubernetes_would_accept_it(values: dict[str, Any], version: str) -> None:
    """Each object is valid, without unknown fields."""
    objects = rendered(values)
    assert {"ConfigMap", "Deployment", "Service"} <= objects.keys()
    for kind in NATIVE & objects.keys():
        kubernetes_validate.validate(objects[kind], version, strict=True)
    oldest = re.search(
        r">=([\d.]+)", yaml.safe_load((FOLDER / "Chart.yaml").read_text())["kubeVersion"]
    )
    assert oldest is not None and oldest[1].startswith(OLDEST)


def container(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the one container."""
    (found,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_its_configuration_is_one() -> None:
    """The server starts with the pod's file and variables."""
    objects = rendered(ALL)
    plain = {each["name"]: each["value"] for each in container(objects)["env"] if "value" in each}
    secret = {each["name"] for each in container(objects)["env"] if "valueFrom" in each}
    assert secret == {"VIDERE_ENGINE", "VIDERE_ADMIN_TOKEN"}
    known = {*environment.VARIABLES, environment.CONFIG}
    assert plain.keys() | secret <= known
    values = json.loads(objects["ConfigMap"]["data"]["conf.json"])
    assert values == ALL["config"]
    del values["IceServers"]  # only the pod has their secret
    options = {key: ("conf.json", value) for key, value in values.items()}
    given = {**plain, "VIDERE_ADMIN_TOKEN": "t" * 16, "VIDERE_ENGINE": "redis://store:6379"}
    config = load(None, {**options, **environment.read(given)}, given)
    assert config.port == container(objects)["ports"][0]["containerPort"]
    assert (config.prefixes, config.host, config.admin_host) == (("/echo", "/other"), "*", "*")


def test_a_host_of_its_own() -> None:
    """Only without one, a pod listens on IPv4 and IPv6."""
    for config, variables in (({}, {"VIDERE_HOST": "*"}), ({"Host": "::1"}, {})):
        env = container(rendered({**ONE, "config": config}))["env"]
        assert {each["name"]: each["value"] for each in env if "HOST" in each["name"]} == variables


@pytest.mark.parametrize("drain", [0, 5, 30, 0.5])
def test_the_drain_has_time(drain: float) -> None:
    """Kubernetes kills only after the hook, the drain and the rest of the shutdown."""
    objects = rendered({**ONE, "drainSeconds": drain})
    plain = {each["name"]: each.get("value") for each in container(objects)["env"]}
    assert float(str(plain["VIDERE_DRAIN_SECONDS"])) == drain
    hook = container(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > hook + drain + AFTER_DRAIN


def test_the_pod_has_no_rights() -> None:
    """It runs as the image's user, without capabilities, and writes nothing."""
    objects = rendered(ALL)
    pod, own = objects["Deployment"]["spec"]["template"]["spec"], container(objects)
    user, group = map(int, of("USER")[0].split(":"))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (
        user,
        group,
    )
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # VIDERE_PORT would be a URL
    assert all(mount["readOnly"] for mount in own["volumeMounts"])


def test_its_probes() -> None:
    """They request the server's checks (tests/test_health.py), on its port."""
    own = container(rendered(ONE))
    asked = {name: own[name]["httpGet"] for name in own if name.endswith("Probe")}
    assert asked == {
        "startupProbe": {"path": "/health", "port": "http"},
        "livenessProbe": {"path": "/health", "port": "http"},
        "readinessProbe": {"path": "/ready", "port": "http"},
    }


def test_all_select_the_same_pods() -> None:
    """The Service, the budget and the monitor select the pods of the Deployment."""
    objects = rendered(ALL)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["Service"]["spec"]["selector"],
        *(
            objects[kind]["spec"]["selector"]["matchLabels"]
            for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor")
        ),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    assert (
        objects["Service"]["spec"]["ports"][0]["targetPort"]
        == container(objects)["ports"][0]["name"]
    )


def test_a_changed_configuration_rolls_the_pods() -> None:
    """The pods' annotation changes with it."""
    key = "checksum/config"
    one, two = (
        rendered({**ONE, "config": {"MaxRooms": rooms}})["Deployment"]["spec"]["template"]
        for rooms in (1, 2)
    )
    assert one["metadata"]["annotations"][key] != two["metadata"]["annotations"][key]


def test_the_monitor_has_the_token() -> None:
    """Prometheus scrapes the admin port with the server's own Secret."""
    objects = rendered(ALL)
    (endpoint,) = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    names = {each["name"]: each["containerPort"] for each in container(objects)["ports"]}
    assert endpoint["port"] in names and endpoint["path"] == "/metrics"
    (token,) = [each for each in container(objects)["env"] if each["name"] == "VIDERE_ADMIN_TOKEN"]
    credentials = endpoint["authorization"]["credentials"]
    assert endpoint["authorization"]["type"] == "Bearer"
    assert credentials == token["valueFrom"]["secretKeyRef"]
    assert objects["PodMonitor"]["metadata"]["labels"]["release"] == "prometheus"
    assert [port["name"] for port in objects["Service"]["spec"]["ports"]] == ["http"]


def test_the_route() -> None:
    """It leads every prefix to the Service, limits no session's time; sticky if configured."""
    objects = rendered(ALL)
    spec = objects["HTTPRoute"]["spec"]
    (rule,) = spec["rules"]
    paths = [match["path"] for match in rule["matches"]]
    assert paths == [{"type": "PathPrefix", "value": each} for each in ALL["config"]["Prefix"]]
    (backend,) = rule["backendRefs"]
    service = objects["Service"]
    assert backend == {
        "name": service["metadata"]["name"],
        "port": service["spec"]["ports"][0]["port"],
    }
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert rule["sessionPersistence"]["type"] == "Cookie"
    assert spec["hostnames"] == ["calls.example.com"]
    plain = rendered({**STORE, "route": ROUTE})["HTTPRoute"]["spec"]["rules"][0]
    assert "sessionPersistence" not in plain
    assert [match["path"]["value"] for match in plain["matches"]] == ["/echo"]
    root = rendered({**STORE, "route": ROUTE, "config": {"Prefix": ""}})["HTTPRoute"]["spec"]
    assert root["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


def test_what_is_optional_is_off() -> None:
    """A single pod has no budget either, which would keep its node from being drained."""
    assert rendered(ONE).keys() == {"ConfigMap", "Deployment", "Service"}
    assert "PodDisruptionBudget" in rendered(STORE)


@pytest.mark.parametrize("name", ["videre", "calls", "my-videre"])
def test_its_names(name: str) -> None:
    """They contain the release's name, so that two releases can share a namespace."""
    for document in rendered(ALL, name).values():
        assert document["metadata"]["name"] == (name if "videre" in name else f"{name}-videre")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "several replicas need an Engine"),
        ({"config": {"Engine": "memory://"}}, "several replicas need an Engine"),
        ({**ONE, "config": {"Port": 5}}, "config.Port: the chart sets it"),
        ({**ONE, "config": {"TLS": True}}, "config.TLS"),
        ({**ONE, "config": {"MaxRoms": 5}}, "MaxRoms"),
        ({**ONE, "config": {"MaxRooms": 0}}, "MaxRooms"),
        ({**ONE, "replica": 2}, "replica"),
        ({**ONE, "admin": {"enabled": True}}, "admin.tokenSecretName"),
        ({**ONE, "admin": {"podMonitor": {"enabled": True}}}, "admin.podMonitor.enabled needs"),
        ({**ONE, "route": {"enabled": True}}, "route.parentRefs"),
    ],
)
def test_values_that_cannot_work(values: dict[str, Any], words: str) -> None:
    """They are refused with the name of the value, before anything is installed."""
    with pytest.raises(HelmError, match=re.escape(words)):
        rendered(values)


@runs("docs/containers.md", "parentRefs")
def test_the_values_of_the_documentation(block: Block) -> None:
    """They create every object, and Kubernetes would accept them."""
    objects = rendered(yaml.safe_load(block.text))
    assert objects.keys() == rendered(ALL).keys()
    for kind in NATIVE:
        kubernetes_validate.validate(objects[kind], NEWEST, strict=True)


def test_engines_that_can() -> None:
    """Several replicas accept any URL of a store."""
    for url in ("redis://a", "rediss://a", "redis+cluster://a", "valkey://a"):
        assert rendered({"config": {"Engine": url}})["Deployment"]["spec"]["replicas"] == 2


def test_its_schema_is_up_to_date() -> None:
    """`python -m videre.config.reference` would change nothing; each value has a rule."""
    text = (FOLDER / "values.schema.json").read_text(encoding="utf-8")
    assert reference.chart_values(text) == text
    values = yaml.safe_load((FOLDER / "values.yaml").read_text(encoding="utf-8"))
    rules = json.loads(text)["properties"]
    assert values.keys() == rules.keys() - {"global"}  # which Helm adds
    for key, value in values.items():
        if rules[key].get("additionalProperties") is False and key != "config":
            assert value.keys() == rules[key]["properties"].keys(), key


def test_its_version() -> None:
    """The chart and its image have this release's version."""
    about = yaml.safe_load((FOLDER / "Chart.yaml").read_text(encoding="utf-8"))
    assert about["version"] == about["appVersion"] == __version__


@pytest.mark.process
def test_it_names_the_image_of_the_release(tmp_path: Path) -> None:
    """With `image.repository` alone, it pulls the tag that the workflow pushes."""
    workflow = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(workflow)["jobs"]["image"]["steps"]
    (tag,) = [step for step in steps if step.get("id") == "image"]
    (pushed,) = [step["with"]["tags"] for step in steps if "tags" in step.get("with", {})]
    assert tag["env"] == {"TAG": "${{ github.ref_name }}"}
    output = tmp_path / "output"
    environ = {"TAG": f"v{__version__}", "GITHUB_OUTPUT": str(output)}
    subprocess.run([require("bash"), "-euc", tag["run"]], env=environ, check=True)
    name, _, value = output.read_text(encoding="utf-8").strip().partition("=")
    known = {"vars.IMAGE": "registry.example.com/server", f"steps.image.outputs.{name}": value}
    image = re.sub(r"\$\{\{ (.+?) \}\}", lambda match: known[match[1]], pushed)
    values = {**ONE, "image": {"repository": known["vars.IMAGE"]}}
    assert container(rendered(values))["image"] == image
