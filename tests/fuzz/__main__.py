"""Fuzz one target: `python tests/fuzz decode [OPTIONS of libFuzzer]`; see README.md.

`python tests/fuzz replay frames DIRECTORY` runs a corpus without atheris, on the compiled parser.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ("decode", "frames", "sockjs")
#: What is instrumented: our code, and Python code of others between us and the wire.
INSTRUMENTED = ["videre", "cerberus", "json", "aiohttp._websocket", "fuzz_costs"]


def fuzz(name: str, options: list[str]) -> None:
    """Run atheris on a target, with its seeds as the first corpus. Does not return."""
    os.environ["AIOHTTP_NO_EXTENSIONS"] = "1"  # the compiled parser reports no coverage
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"fuzz_{name}")
        costs = importlib.import_module("fuzz_costs")
    corpus = Path(next(option for option in options if not option.startswith("-")))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (corpus / f"seed-{number}").write_bytes(seed)
    print(f"The corpus is {corpus}", flush=True)
    one_input = target.one_input
    if hasattr(target, "work"):
        costs = costs.Costs(target.work, corpus)

        def one_input(data: bytes) -> None:
            target.one_input(data)
            costs.note(data)

    atheris.Setup([name, *options], one_input)
    atheris.Fuzz()


def dearest(name: str, corpus: Path) -> str:
    """Return a description of a corpus's most expensive input, measured without atheris."""
    work = getattr(importlib.import_module(f"fuzz_{name}"), "work", None)
    if work is None:
        return f"{name} does not measure costs"
    costs = importlib.import_module("fuzz_costs").Costs(work)
    for file in sorted(corpus.iterdir()):
        costs.note(file.read_bytes())
    return str(costs)


def replay(name: str, files: Iterable[Path]) -> int:
    """Run a target on these files, and return their number."""
    target = importlib.import_module(f"fuzz_{name}")
    count = 0
    for count, file in enumerate(files, 1):  # noqa: B007
        target.one_input(file.read_bytes())
    return count


def main(arguments: list[str]) -> int:
    """Carry out the arguments, and return the exit code."""
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
    sys.setrecursionlimit(5000)  # orjson accepts 1024 levels; checking its result needs more
    match arguments:
        case ["replay", name, folder] if name in TARGETS:
            print(f"{replay(name, sorted(Path(folder).iterdir()))} inputs, nothing found")
            print(dearest(name, Path(folder)))
            return 0
        case ["fuzz", name, *options]:
            fuzz(name, options)
        case [name, *options] if name in TARGETS:
            if all(option.startswith("-") for option in options):
                options = [*options, tempfile.mkdtemp(prefix=f"fuzz-{name}-")]
            corpus = Path(next(option for option in options if not option.startswith("-")))
            # libFuzzer ends its process at once, so that another process must report the result.
            command = [sys.executable, str(HERE), "fuzz", name, *options]
            code = subprocess.run(command).returncode
            print(dearest(name, corpus))
            return code
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
