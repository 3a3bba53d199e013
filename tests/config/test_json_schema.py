"""docs/videre.schema.json: written from the settings, and never stricter than the server."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from process import ROOT

from videre.config import json_schema, load, reference
from videre.config.schema import SCHEMA, judge
from videre.errors import ConfigError

SCHEMA_FILE = ROOT / reference.SCHEMA_FILE

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 15, 16, 17, 255, 256, 257, 4096, 65535, 65536, 86401, -1, 10**9),
    *(0.0005, 0.5, 1.5, "", "x", "/echo", "debug", "json", "text", "replace", "each", "shared"),
    *("127.0.0.1", "videre", "X-Real-IP", "a b", "https://a.example", "sha384-x", "memory://"),
    *([], [""], ["a"], ["/a", "/b"], ["127.0.0.1"], [1], ["https://a.example"], {}, {"a": 1}),
    *([{}], [{"Urls": "stun:a"}], [{"urls": ["stun:a"]}], [{"Urls": "stun:a", "Other": 1}]),
    *({"Secrets": ["s" * 32]}, {"Secrets": "s"}, {"Required": 1}, {"Leeway": -1}, {"Leeway": 5}),
]

#: The keys of which the server checks more than a JSON Schema can.
CHECKED = {"Host", "Prefix", "Engine", "Origins", "TrustedProxies", "IceServers", "Auth"} | {
    *("Workers", "AdminHost", "AdminPort", "Demo", "AdminToken", "AdminTokenFile", "WorkerPorts"),
    *("AdminTokenVariable", "Cert", "Key"),
}


def test_it_is_up_to_date() -> None:
    """`python -m videre.config.reference` would change nothing."""
    assert all(
        path.read_text(encoding="utf-8") == text for path, text in reference.generated(ROOT).items()
    )


def test_it_is_a_schema() -> None:
    """Of the dialect that it names, with a rule, a default and a description for each key."""
    document = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    validator().check_schema(document)
    assert document["$schema"] == validator().META_SCHEMA["$schema"]
    assert document["properties"].keys() == SCHEMA.keys() | {"$schema"}
    for key in SCHEMA:
        assert {"default", "description"} <= document["properties"][key].keys()
        assert validator().is_valid({key: document["properties"][key]["default"]}), key


@cache
def validator() -> Any:
    """Return what checks values by the schema."""
    import jsonschema  # takes 1.5 s, here in one worker alone

    return jsonschema.Draft7Validator(json_schema.schema())


def accepts(key: str, value: Any) -> bool:
    """Tell whether the server finds nothing wrong with the value of a key."""
    try:
        load(None, {key: ("test", value)}, {})
    except ConfigError as error:
        return not any(f": {key}" in fault for fault in error.faults)
    return True


@pytest.mark.parametrize("key", SCHEMA)
def test_it_agrees_with_the_server(key: str) -> None:
    """It rejects nothing that the server accepts, and accepts little that the server rejects."""
    for value in VALUES:
        valid, good = validator().is_valid({key: value}), accepts(key, value)
        assert valid or not good, f"only the schema rejects {value!r}"
        assert good or not valid or key in CHECKED, f"only the server rejects {value!r}"


def test_an_unknown_key() -> None:
    """Is rejected by both: most are misspelled."""
    assert not validator().is_valid({"Prot": 1111}) and judge({"Prot": 1111})[1]


def test_the_shipped_configuration() -> None:
    """Is valid."""
    validator().validate(json.loads((ROOT / "bin/conf.json").read_text(encoding="utf-8")))


def test_a_file_may_name_it(tmp_path: Path) -> None:
    """`$schema` is for the editor; the server ignores it."""
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"$schema": "videre.schema.json", "Port": 5}), encoding="utf-8")
    assert load(path).port == 5
    validator().validate(json.loads(path.read_text(encoding="utf-8")))
