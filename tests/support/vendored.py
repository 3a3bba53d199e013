"""Files checked by the schemas that check-jsonschema includes, without starting it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import yaml
from jsonschema import FormatChecker
from jsonschema.validators import validator_for
from process import missing


def conforms(file: Path, name: str) -> None:
    """Fail unless a YAML file is valid by a schema of check-jsonschema, such as "compose-spec".

    The package's own import takes a second; its schemas are plain files.
    """
    package = find_spec("check_jsonschema")
    if package is None:
        missing("check-jsonschema is not installed")
    assert package is not None and package.origin is not None
    vendor = Path(package.origin).parent / "builtin_schemas" / "vendor"
    schema = json.loads((vendor / f"{name}.json").read_text(encoding="utf-8"))
    validator = validator_for(schema)(schema, format_checker=FormatChecker())
    validator.validate(yaml.safe_load(file.read_text(encoding="utf-8")))
