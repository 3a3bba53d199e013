"""The browser client is typed, and is part of the package."""

from __future__ import annotations

import json
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from patience import patient
from process import ROOT, node_modules, require

pytestmark = pytest.mark.process

CLIENT = ROOT / "videre" / "browser"
DEMO = ROOT / "videre" / "demo"
OPTIONS = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "module": "es2022",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom", "dom.iterable"],
    "types": [],
}


def compiled(tmp_path: Path, *files: Path | str, **options: object) -> tuple[int, str]:
    """Run the TypeScript compiler; return its exit code and output."""
    config = {"compilerOptions": {**OPTIONS, **options}, "files": [str(file) for file in files]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    tsc = node_modules() / "typescript" / "bin" / "tsc"
    command = [require("node"), str(tsc), "-p", str(tmp_path), "--listFiles"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(120))
    return done.returncode, done.stdout


def test_the_modules_type_check(tmp_path: Path) -> None:
    """The compiler finds no error in the client's JSDoc."""
    sources = [CLIENT / "videre.js", *sorted((CLIENT / "videre").glob("*.js"))]
    code, output = compiled(tmp_path, *sources, allowJs=True, checkJs=True, skipLibCheck=True)
    assert code == 0, output
    checked = {Path(line).name for line in output.splitlines() if str(CLIENT) in line}
    assert {source.name for source in sources} <= checked


def test_the_demo_type_checks(tmp_path: Path) -> None:
    """It uses the client as the types say. Served, it is beside the client."""
    options = {"rootDirs": [str(DEMO), str(CLIENT)], "allowJs": True, "checkJs": True}
    code, output = compiled(tmp_path, DEMO / "demo.js", **options)
    assert code == 0, output
    checked = {Path(line).name for line in output.splitlines() if str(DEMO) in line}
    assert checked == {file.name for file in DEMO.glob("*.js")}


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


def test_the_types_match_the_modules(tmp_path: Path) -> None:
    """Each member of the types exists in the modules, with that type."""
    file = tmp_path / "promised.ts"
    file.write_text(PROMISED.replace("CLIENT", str(CLIENT)), encoding="utf-8")
    options = {"allowJs": True, "skipLibCheck": True, "allowImportingTsExtensions": True}
    code, output = compiled(tmp_path, file, **options)
    assert code == 0, output


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


def test_applications_compile(tmp_path: Path) -> None:
    """They do so in strict mode without `allowJs`; the types of events' data are inferred."""
    file = tmp_path / "app.ts"
    file.write_text(GOOD.replace("CLIENT", str(CLIENT)), encoding="utf-8")
    code, output = compiled(tmp_path, file)
    assert code == 0, output


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


def test_mistakes_do_not_compile(tmp_path: Path) -> None:
    """Each is a wrong name or type, and the only error in its file."""
    start = f"import {{ Peer, Signaller, Videre }} from '{CLIENT}/videre.js';\n"
    start += 'const videre = new Videre({ signallerURL: "/echo" }); void [Peer, Signaller];\n'
    files = [tmp_path / f"mistake{number}.ts" for number in range(len(MISTAKES))]
    for file, mistake in zip(files, MISTAKES, strict=True):
        file.write_text(start + mistake + "\n", encoding="utf-8")
    code, output = compiled(tmp_path, *files)
    faults = [line.partition(",")[0] for line in output.splitlines() if ": error " in line]
    assert code and len(faults) == len(files), output
    found = {Path(fault).name for fault in faults}  # each in the third line of its file
    assert found == {f"{file.name}(3" for file in files}


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
