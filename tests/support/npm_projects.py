"""Projects made like `npm create vite` does, with the browser client as it would be installed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from patience import patient
from process import ROOT, missing, require

NPM = ROOT / "tests" / "npm"
CLIENT = ROOT / "videre" / "browser"

#: tsconfig.app.json of the templates of create-vite 7, but checking the declarations, ours too.
STRICT = {
    "target": "ES2022",
    "useDefineForClassFields": True,
    "lib": ["ES2022", "DOM", "DOM.Iterable"],
    "module": "ESNext",
    "types": ["vite/client"],
    "skipLibCheck": False,
    "moduleResolution": "bundler",
    "allowImportingTsExtensions": True,
    "verbatimModuleSyntax": True,
    "moduleDetection": "force",
    "noEmit": True,
    "strict": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "erasableSyntaxOnly": True,
    "noFallthroughCasesInSwitch": True,
    "noUncheckedSideEffectImports": True,
}
#: One project that checks all declarations is enough: the others would take twice as long.
AS_CREATED = ("skipLibCheck", True)
INDEX = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="UTF-8" />
    <link rel="icon" href="data:," />
    <title>Call</title>
  </head>
  <body>
    <div id="app"></div>
    <script type="module" src="/src/{folder}main.{ending}"></script>
  </body>
</html>
"""
CONFIG = """
import {{ defineConfig }} from "vite";
import {plugin} from "{package}";
const rollupOptions = {{ input: {pages} }};
export default defineConfig({{ plugins: [{call}], build: {{ emptyOutDir: true, rollupOptions }} }});
"""


def npm_modules() -> Path:
    """Return the folder of the applications' build tools, installed by its lock file."""
    npm = require("npm")
    lock, installed = NPM / "package-lock.json", NPM / "node_modules" / ".package-lock.json"
    directory = os.open(NPM, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # two test runs must not install at once
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            # Includes optional packages, since esbuild and rollup have their programs there.
            command = [npm, "ci", "--ignore-scripts"]
            done = subprocess.run(command, cwd=NPM, capture_output=True, text=True)
            if done.returncode:
                missing(f"npm ci failed: {done.stderr}")
    finally:
        os.close(directory)
    return NPM / "node_modules"


def packed(folder: Path) -> Path:
    """Pack the client; return the file that `npm publish` would send."""
    command = [require("npm"), "pack", "--json", "--pack-destination", str(folder)]
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=True)
    (told,) = json.loads(done.stdout)
    return folder / str(told["filename"])


def node(script: Path | str, *args: str, cwd: Path) -> str:
    """Run a node program, which must succeed, and return its output."""
    command = [require("node"), str(script), *args]
    done = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patient(180),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True)
class Template:
    """The parts of one of Vite's templates."""

    plugin: str
    package: str
    check: tuple[str, ...]  # the type checker's program and options
    main: str
    call: str = ""
    ending: str = "ts"
    more: tuple[tuple[str, object], ...] = ()  # from the compiler's options


TEMPLATES = {
    "react-ts": Template(
        plugin="react",
        package="@vitejs/plugin-react",
        check=("typescript/bin/tsc", "-p", "tsconfig.json"),
        ending="tsx",
        more=(("jsx", "react-jsx"),),
        main="""
        import { StrictMode } from "react";
        import { createRoot } from "react-dom/client";
        import { App } from "./App.tsx";
        const root = document.getElementById("app");
        if (root) createRoot(root).render(<StrictMode><App /></StrictMode>);
        """,
    ),
    "vue-ts": Template(
        plugin="vue",
        package="@vitejs/plugin-vue",
        check=("vue-tsc/bin/vue-tsc.js", "-p", "tsconfig.json"),
        more=(("jsx", "preserve"), AS_CREATED),
        main="""
        import { createApp } from "vue";
        import App from "./App.vue";
        createApp(App, { url: "/echo" }).mount("#app");
        """,
    ),
    "svelte-ts": Template(
        plugin="{ svelte, vitePreprocess }",
        package="@sveltejs/vite-plugin-svelte",
        check=(
            "svelte-check/bin/svelte-check",
            "--tsconfig",
            "tsconfig.json",
            "--fail-on-warnings",
        ),
        call="svelte({ preprocess: vitePreprocess() })",
        more=(AS_CREATED,),
        main="""
        import { mount } from "svelte";
        import App from "./App.svelte";
        const target = document.getElementById("app");
        if (target) mount(App, { target, props: { url: "/echo" } });
        """,
    ),
}


class Project:
    """A project in its own folder, with a packed client installed.

    It has an application, in src, or several, each in a folder there with a page of its own:
    starting a compiler or a bundler is dear.
    """

    def __init__(self, folder: Path, client: Path, template: Template, *applications: str) -> None:
        self.folder = folder
        self._template = template
        modules = folder / "node_modules"
        modules.mkdir(parents=True)
        for each in npm_modules().iterdir():
            if not each.name.startswith(".") and each.name != "videre-client":
                (modules / each.name).symlink_to(each)
        with tarfile.open(client) as tar:
            tar.extractall(folder / "unpacked", filter="data")
        (folder / "unpacked" / "package").rename(modules / "videre-client")
        self.write("package.json", json.dumps({"name": "app", "private": True, "type": "module"}))
        call = template.call or f"{template.plugin}()"
        pages = [f"{name}.html" for name in applications or ["index"]]
        config = CONFIG.format(
            plugin=template.plugin, package=template.package, call=call, pages=json.dumps(pages)
        )
        self.write("vite.config.js", config)
        options = {**STRICT, **dict(template.more)}
        self.write("tsconfig.json", json.dumps({"compilerOptions": options, "include": ["src"]}))
        folders = [f"{name}/" for name in applications] or [""]
        for page, place in zip(pages, folders, strict=True):
            self.write(page, INDEX.format(folder=place, ending=template.ending))
            self.write(f"src/{place}main.{template.ending}", template.main)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def check(self) -> None:
        """Check the types, as the template's `npm run build` does."""
        program, *options = self._template.check
        node(self.folder / "node_modules" / program, *options, cwd=self.folder)

    def build(self) -> Path:
        """Build the application, and return the folder for a site to serve."""
        output = node(self.folder / "node_modules/vite/bin/vite.js", "build", cwd=self.folder)
        assert "warning" not in output.lower(), output
        return self.folder / "dist"
