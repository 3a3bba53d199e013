"""The browser client is typed, and is part of the package."""

from __future__ import annotations

import json
import subprocess
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import patient
from process import ROOT, node_modules, require

pytestmark = [pytest.mark.process, pytest.mark.long]

CLIENT = ROOT / "videre" / "browser"
DEMO = ROOT / "videre" / "demo"
MODULES = [CLIENT / "videre.js", *sorted((CLIENT / "videre").glob("*.js"))]
OPTIONS = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "module": "es2022",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom", "dom.iterable"],
    "types": [],
    "allowJs": True,
    "checkJs": True,
    "allowImportingTsExtensions": True,
    "rootDirs": [str(DEMO), str(CLIENT)],  # served, the demo is beside the client
}

#: Assignable in this direction: the modules have all that the types promise.
PROMISED = """
import type * as types from "CLIENT/videre.js";
import { Videre } from "CLIENT/videre/call.js";
import { SignallerError, TransferError } from "CLIENT/videre/errors.js";
import { Peer } from "CLIENT/videre/peer.js";
import { Signaller } from "CLIENT/videre/signaller.js";

type Heard = "on" | "addEventListener" | "removeEventListener";
declare const videre: Videre, signaller: Signaller, peer: Peer;
export const a: Omit<types.Videre, Heard | "peers" | "signaller"> = videre;
export const b: Omit<types.Signaller, Heard> = signaller;
export const c: Omit<types.Peer, never> = peer;
export const d: ConstructorParameters<typeof Signaller>[0] = {} as types.SignallerOptions;
export const e: ConstructorParameters<typeof Videre>[0] = {} as types.VidereOptions;
export const f: Omit<types.SignallerError, "name"> = new SignallerError("a", "b");
export const g: Omit<types.TransferError, "name"> = new TransferError("a", "b", "c");
"""

GOOD = """
import Default, { Peer, Signaller, SignallerError, TransferError, Videre } from "CLIENT/videre.js";
import type { Quality, Sent, Welcome } from "CLIENT/videre.js";

const videre = new Videre({ signallerURL: "/echo", token: async ({ room, user }) => room + user });
videre
  .on("stream", ({ user, stream }) => {
    const name: string = user;
    const tracks: MediaStreamTrack[] = stream.getTracks();
    void [name, tracks];
  })
  .on("error", (error) => error instanceof TransferError && error.user.length)
  .on("level", ({ user, level }) => user.length + level.toFixed(2).length);
videre.addEventListener("hangup", ({ detail }) => detail.connection.close(), { once: true });
videre.signaller.on("closed", (error) => error?.retry);
const welcome: Promise<Welcome | null> = videre.connect("room");
const sent: Promise<Sent> = videre.send([1, null], { to: ["a"], onProgress: ({ size }) => size });
const quality = (peer: Peer): Promise<Quality> => peer.quality();
const signaller = new Signaller({ url: new URL("https://example.com/echo") });
signaller.on("message", ({ user, payload }) => [user, payload.anything]);
export { Default, SignallerError, quality, sent, welcome };
"""

MISTAKES = [
    'videre.on("streem", () => {});',
    'videre.on("stream", ({ usr }) => usr);',
    'videre.addEventListener("hangupp", () => {});',
    'videre.signaller.on("stream", () => {});',
    "new Videre({});",
    'new Videre({ signallerUrl: "/echo" });',
    'new Videre({ signallerURL: "/echo", userId: 7 });',
    'new Signaller({ url: "/echo", token: 7 });',
    "videre.connect(7);",
    'videre.useDevice("smell");',
    'videre.send("a", { too: "ann" });',
    "videre.peers = new Map();",
    'new Peer(videre, "ann");',
]
START = f"""import {{ Peer, Signaller, Videre }} from '{CLIENT}/videre.js';
const videre = new Videre({{ signallerURL: "/echo" }}); void [Peer, Signaller];
"""


@dataclass(frozen=True)
class Compiled:
    """What the TypeScript compiler says of all these files, in one run: starting it is dear."""

    folder: Path
    errors: list[str]  # one per line: the file and the place, and the fault
    files: set[Path]  # those that it read

    def faults(self, *files: Path) -> list[str]:
        """Return the errors in these files."""
        return [error for error in self.errors if Path(error.partition("(")[0]) in files]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compile the modules, the demo, and programs that use the types, in strict mode."""
    folder = tmp_path_factory.mktemp("types")
    texts = {"promised.ts": PROMISED, "app.ts": GOOD}
    texts |= {f"mistake{number}.ts": START + text for number, text in enumerate(MISTAKES)}
    for name, text in texts.items():
        (folder / name).write_text(f"{text.replace('CLIENT', str(CLIENT))}\n", encoding="utf-8")
    files = [str(file) for file in (*MODULES, DEMO / "demo.js", *(folder / name for name in texts))]
    config = {"compilerOptions": OPTIONS, "files": files}
    (folder / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    tsc = node_modules() / "typescript" / "bin" / "tsc"
    command = [require("node"), str(tsc), "-p", str(folder), "--listFiles", "--pretty", "false"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=patient(300))
    lines = done.stdout.splitlines()
    errors = [f"/{line}" for line in lines if ": error " in line]
    assert done.returncode and not done.stderr, done.stderr  # the mistakes are errors
    return Compiled(folder, errors, {Path(line) for line in lines if line.startswith("/")})


def test_the_modules_type_check(compiled: Compiled) -> None:
    """The compiler finds no error in the client's JSDoc, nor in its types."""
    types = CLIENT / "videre.d.ts"
    assert compiled.files >= {*MODULES, types}
    assert compiled.faults(*MODULES, types) == []


def test_the_demo_type_checks(compiled: Compiled) -> None:
    """It uses the client as the types say."""
    demo = set(DEMO.glob("*.js"))
    assert compiled.files >= demo
    assert compiled.faults(*demo) == []


def test_the_types_match_the_modules(compiled: Compiled) -> None:
    """Each member of the types exists in the modules, with that type."""
    assert compiled.faults(compiled.folder / "promised.ts") == []


def test_applications_compile(compiled: Compiled) -> None:
    """The types of events' data are inferred."""
    assert compiled.faults(compiled.folder / "app.ts") == []


def test_only_mistakes_do_not_compile(compiled: Compiled) -> None:
    """Each is a wrong name or type, and the only error in its file, in its third line."""
    files = [compiled.folder / f"mistake{number}.ts" for number in range(len(MISTAKES))]
    places = [error.partition(",")[0] for error in compiled.errors]
    assert sorted(places) == sorted(f"{file}(3" for file in files), compiled.errors


def test_it_has_no_dependencies() -> None:
    """Its modules import only each other."""
    for source in (CLIENT / "videre").glob("*.js"):
        text = source.read_text(encoding="utf-8")
        imports = [line for line in text.splitlines() if line.startswith("import ")]
        assert all(' from "./' in line for line in imports), source
        assert " import(" not in text.replace("{import(", ""), source


def test_it_is_shipped() -> None:
    """The Python package contains it."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    held = config["options.package_data"]["videre"].split(", ")
    assert {"demo/*", "browser/*", "browser/videre/*"} <= set(held)
