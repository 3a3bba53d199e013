/**
 * Chromium, driven line by line: browser.mjs CHROMIUM FLAGS...
 *
 * A command is a JSON line on stdin, its answer one on stdout with the same `id`.
 *
 * {op: "open", page, url, devices, own, init, ready}   a page: with `devices` it may use camera and
 *     microphone; with `own` it has its own context, with these options of Playwright's; `init`
 *     runs before its scripts; with `ready` it reports that itself
 * {op: "run", page, code, arg}             run an async function with this body in the page
 * {op: "drive", page, code, arg}           run it here, with Playwright's `page`
 * {op: "close", page}
 * {op: "closeAll"}
 */
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

// Playwright's own list (chromiumSwitches.ts), which ours replaces: Chromium obeys the last switch.
const PLAYWRIGHT_DISABLES = [
  "AvoidUnnecessaryBeforeUnloadCheckSync",
  "DestroyProfileOnBrowserClose",
  "HttpsUpgrades",
  "HttpsFirstBalancedModeAutoEnable",
  "LensOverlay",
  "MediaRouter",
  "PaintHolding",
  "ThirdPartyStoragePartitioning",
  "AvoidCorsURLLoaderRestartOnRedirect",
  "OptimizationHints",
  "NetworkTimeServiceQuerying",
  "AimEnabled",
  "PreconnectToSearch",
];
const DISABLED = [
  ...PLAYWRIGHT_DISABLES,
  "SpareRendererForSitePerProcess", // a process for each page that may follow
  // The calls are between pages on one machine, which may have no network.
  "WebRtcHideLocalIpsWithMdns",
];
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream",
  "--allow-loopback-in-peer-connection",
  `--disable-features=${DISABLED}`,
  // Starting a process takes as much CPU as a page: those of a context share one, which stays.
  "--renderer-process-limit=1",
  "--disable-site-isolation-trials",
];
// An animation would be painted all the time.
const CONTEXT = { reducedMotion: "reduce" };

// As WAIT_SECONDS in tests/support/patience.py.
const WAIT_MS = 60_000 * Number(process.env.VIDERE_TEST_PATIENCE ?? 1);

const [executablePath, ...flags] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
const pages = new Map();

const contexts = {
  true: await browser.newContext(CONTEXT),
  false: await browser.newContext(CONTEXT),
};
await contexts[true].grantPermissions(["camera", "microphone"]);

// Closed pages, kept for reuse: another one takes a process, which costs as much as a whole call.
const MOST_IDLE = 8; // six people are the most in one test
const idle = []; // the longest idle first
const traits = new WeakMap(); // of an open page: its kind and its init script

async function make(devices, own) {
  const context = own ? await browser.newContext({ ...CONTEXT, ...own }) : contexts[devices];
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  if (own) page.on("close", () => context.close());
  return page;
}

/** Undoes what a test may have done to a page, and keeps it; closes it if it has crashed. */
async function release(page) {
  const { kind, script } = traits.get(page);
  for (const type of ["console", "pageerror", "request", "response"]) page.removeAllListeners(type);
  const [, own] = JSON.parse(kind);
  const context = page.context();
  try {
    await page.evaluate(forget);
    await script?.dispose();
    await page.goto("about:blank");
    await page.unrouteAll();
    await context.clearCookies();
    await page.emulateMedia({ colorScheme: own?.colorScheme ?? null });
    if (own?.viewport) await page.setViewportSize(own.viewport);
    if (own) {
      await context.clearPermissions();
      await context.grantPermissions(own.permissions ?? []);
    }
    idle.push(page);
    if (idle.length > MOST_IDLE) await idle.shift().close();
  } catch {
    await page.close(); // it has crashed
  }
}

/** Takes an idle page of this kind, if there is one. */
function reuse(kind) {
  const at = idle.findLastIndex((page) => traits.get(page).kind === kind);
  return at < 0 ? undefined : idle.splice(at, 1)[0];
}

function forget() {
  if (location.origin === "null") return; // it has no storage
  sessionStorage.clear();
  localStorage.clear();
}

const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

const operations = {
  async open({ page: name, url, devices, own, init, ready }) {
    const kind = JSON.stringify([devices, own]);
    const page = reuse(kind) ?? (await make(devices, own));
    traits.set(page, { kind, script: init ? await page.addInitScript(init) : null });
    page.on("console", (message) => console.error(name, message.text()));
    page.on("pageerror", (error) => {
      console.error(name, error.stack);
      console.log(JSON.stringify({ page: name, fault: String(error) }));
    });
    pages.set(name, page);
    await page.goto(url);
    if (ready) await page.waitForFunction("globalThis.ready");
  },

  drive({ page, code, arg }) {
    return new AsyncFunction("page", "arg", code)(pages.get(page), arg);
  },

  run({ page, code, arg }) {
    const body = ([code, arg]) =>
      Object.getPrototypeOf(async () => {}).constructor("arg", code)(arg);
    return pages.get(page).evaluate(body, [code, arg]);
  },

  async close({ page }) {
    await pages.get(page).close();
    pages.delete(page);
  },

  async closeAll() {
    const open = [...pages.values()];
    pages.clear();
    await Promise.all(open.map(release));
  },
};

async function carryOut({ id, op, ...more }) {
  let answer;
  try {
    answer = { id, result: (await operations[op](more)) ?? null };
  } catch (error) {
    answer = { id, error: String(error) };
  }
  console.log(JSON.stringify(answer));
}

for await (const line of createInterface({ input: process.stdin })) carryOut(JSON.parse(line));
await browser.close();
