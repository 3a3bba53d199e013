/**
 * Chromium, driven line by line: browser.mjs CHROMIUM FLAGS...
 *
 * A command is a JSON line on stdin, its answer one on stdout with the same `id`.
 *
 * {op: "open", page, url, devices, own, init, ready}   a page: with `devices` it may use camera and
 *     microphone; with `own` it has its own context, with these options of Playwright's; with
 *     `ready` it reports that itself
 * {op: "run", page, code, arg}             run an async function with this body in the page
 * {op: "drive", page, code, arg}           run it here, with Playwright's `page`
 * {op: "close", page}
 * {op: "closeAll"}
 */
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--renderer-process-limit=1",
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream",
  // The calls are between pages on one machine, which may have no network.
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

// As WAIT_SECONDS in tests/support/patience.py.
const WAIT_MS = 60_000 * Number(process.env.VIDERE_TEST_PATIENCE ?? 1);

const [executablePath, ...flags] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
const pages = new Map();

// Pages of one context share a process, which saves time.
const contexts = { true: await browser.newContext(), false: await browser.newContext() };
await contexts[true].grantPermissions(["camera", "microphone"]);

// Open pages with their own context, kept for reuse: creating a context and its process takes long.
const idle = new Map();
const kinds = new Map();

async function make({ devices, own, init }) {
  const context = own ? await browser.newContext(own) : contexts[devices];
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  if (own) page.on("close", () => context.close());
  if (init) await page.addInitScript(init);
  return page;
}

/** Closes a page, or keeps it for reuse with the same options. */
async function release(page) {
  const kind = kinds.get(page);
  if (!kind) return page.close();
  for (const type of ["console", "pageerror", "request", "response"]) page.removeAllListeners(type);
  const [own] = JSON.parse(kind);
  const context = page.context();
  try {
    await page.goto("about:blank");
    // A test may have changed these.
    await context.clearCookies();
    await context.clearPermissions();
    await context.grantPermissions(own.permissions ?? []);
    await page.emulateMedia({ colorScheme: own.colorScheme ?? null });
    if (own.viewport) await page.setViewportSize(own.viewport);
    idle.set(kind, [...(idle.get(kind) ?? []), page]);
  } catch {
    await page.close(); // it has crashed
  }
}

const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

const operations = {
  async open({ page: name, url, devices, own, init, ready }) {
    const kind = JSON.stringify([own, init]);
    const page = (own && idle.get(kind)?.pop()) ?? (await make({ devices, own, init }));
    if (own) kinds.set(page, kind);
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
