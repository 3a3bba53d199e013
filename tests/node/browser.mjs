/**
 * Chromium, driven line by line: browser.mjs CHROMIUM
 *
 * A command is a JSON line on stdin, its answer one on stdout with the same `id`.
 *
 * {op: "open", page, url, devices, init}   a page; `devices`: it may use camera and microphone
 * {op: "run", page, code, arg}             what an async function with this body returns
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
  // The calls are between pages of one machine, that may have no network at all.
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

const browser = await chromium.launch({ executablePath: process.argv[2], args: FLAGS });
const pages = new Map();

// Pages of a context share its process, which is quick.
const contexts = { true: await browser.newContext(), false: await browser.newContext() };
await contexts[true].grantPermissions(["camera", "microphone"]);

const operations = {
  async open({ page: name, url, devices, init }) {
    const page = await contexts[devices].newPage();
    if (init) await page.addInitScript(init);
    page.on("console", (message) => console.error(name, message.text()));
    page.on("pageerror", (error) => {
      console.error(name, error.stack);
      console.log(JSON.stringify({ page: name, fault: String(error) }));
    });
    pages.set(name, page);
    await page.goto(url);
    await page.waitForFunction("globalThis.ready");
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
    await Promise.all([...pages.keys()].map((page) => operations.close({ page })));
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
