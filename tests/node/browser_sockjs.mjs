/**
 * The client in headless Chromium: browser_sockjs.mjs CHROMIUM PAGE SCENARIO ARGS
 *
 * A page at PAGE has the class Peer of peer.mjs. Its peers' output is printed here, a JSON line
 * each, with this process's clock as `at` and with the scenario's transport.
 *
 * transports URL ROOM TRANSPORT...   two tabs meet over each transport
 * origin URL ROOM TRANSPORT...       a page tries what its origin may or may not do
 */
import { chromium } from "playwright-core";

const SCENARIO_MS = 100_000 * (process.env.VIDERE_TEST_PATIENCE ?? 1); // ten times the usual time
const LANES = 3; // transports at a time: most of their time is waiting
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const PAYLOADS = ["x".repeat(60_000), "視".repeat(20_000), "👩‍👩‍👧‍👦 こんにちは 세계 e\u0301 \u2028</script>\"'\\/"];

const [executablePath, pageUrl, scenario, ...args] = process.argv.slice(2);

function print(line) {
  console.log(JSON.stringify({ at: Math.round(performance.now()), ...line }));
}

/** A page with one peer at a time, which is driven from here. */
class Tab {
  constructor(page) {
    this.page = page;
  }

  static async open(context, transport) {
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.text().startsWith("{")) {
        const { at, ...line } = JSON.parse(message.text());
        print({ ...line, transport });
      } else console.error(transport, message.text());
    });
    page.on("pageerror", (error) => print({ transport, event: "page-error", error: String(error) }));
    await page.goto(pageUrl);
    return new Tab(page);
  }

  async connect(url, transport, who) {
    await this.page.evaluate(
      async ([url, transport, who]) => {
        globalThis.peer = await Peer.open(url, transport, who);
        peer.send("connect", "{}");
        await peer.hears("connect");
      },
      [url, transport, who],
    );
  }

  send(event, payload) {
    return this.page.evaluate(([event, payload]) => peer.send(event, payload), [event, payload]);
  }

  sendTexts(texts) {
    return this.page.evaluate((texts) => texts.forEach((text) => peer.sendText(text)), texts);
  }

  hears(event, user) {
    return this.page.evaluate(([event, user]) => peer.hears(event, user).then(() => {}), [event, user]);
  }

  closed() {
    return this.page.evaluate(() => peer.closed);
  }

  close() {
    return this.page.evaluate(() => peer.close());
  }
}

async function meet(context, transport, url, room) {
  const [first, second] = [await Tab.open(context, transport), await Tab.open(context, transport)];
  await first.connect(url, transport, { name: "first", room });
  await second.connect(url, transport, { name: "second", room });
  await first.hears("connect", "second");
  for (const payload of PAYLOADS) {
    await first.send("broadcast", payload);
    await second.send("broadcast", payload);
    await Promise.all([first.hears("broadcast", "second"), second.hears("broadcast", "first")]);
  }
  await second.sendTexts(Array(10).fill("{"));
  await second.closed();
  await first.hears("disconnect", "second");
  await second.connect(url, transport, { name: "again", room });
  await first.hears("connect", "again");
  await second.send("ping", "{}");
  await second.hears("ping");
  print({ transport, event: "page-closed" });
  await second.page.close();
  await first.hears("disconnect", "again");
  await first.close();
}

/** What a page can try without asking /info for permission. */
function tryByHand(base) {
  const fresh = () => `/000/${crypto.randomUUID()}`;
  const webSocket = (path) =>
    new Promise((resolve) => {
      const socket = new WebSocket(`ws${(base + path).slice(4)}`);
      socket.onopen = () => resolve("open");
      socket.onclose = ({ code }) => resolve(code);
    });
  const post = async (path) => {
    const aborter = new AbortController();
    const options = { method: "POST", signal: aborter.signal };
    const answer = await fetch(base + path, options).catch(() => null);
    aborter.abort();
    return answer ? answer.status : "refused";
  };
  const iframe = () =>
    new Promise((resolve) => {
      const frame = document.createElement("iframe");
      const say = (type, data) =>
        frame.contentWindow.postMessage(JSON.stringify({ windowId: "frame", type, data }), "*");
      addEventListener("message", (message) => {
        const { type, data } = JSON.parse(message.data);
        if (type === "s") {
          const urls = [base + fresh(), base];
          say("s", JSON.stringify([SockJS.version, "xhr-polling", ...urls]));
        } else resolve(data === "o" ? "open" : data);
      });
      // A browser does not report that it refused to frame a page.
      frame.onload = () => setTimeout(resolve, 3_000, "refused");
      frame.src = `${base}/iframe.html#frame`;
      document.body.append(frame);
    });
  return Promise.all([
    webSocket("/websocket"),
    webSocket(`${fresh()}/websocket`),
    post(`${fresh()}/xhr`),
    post(`${fresh()}/xhr_streaming`),
    iframe(),
  ]);
}

const scenarios = {
  async transports(browser, url, room, ...transports) {
    const meetOver = async (transport) => {
      const context = await browser.newContext();
      try {
        await meet(context, transport, url, `${room} ${transport}`);
        print({ transport, event: "done" });
      } catch (error) {
        print({ transport, event: "failed", error: String(error) });
      }
      await context.close();
    };
    const lane = async () => {
      while (transports.length) await meetOver(transports.shift());
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  },

  async origin(browser, url, room, ...transports) {
    const context = await browser.newContext();
    const tab = await Tab.open(context, "");
    print({ event: "by-hand", found: await tab.page.evaluate(tryByHand, url) });
    for (const transport of transports) {
      const joined = tab.connect(url, transport, { name: transport, room });
      const error = await joined.then(() => null, String);
      print({ transport, event: "tried", error });
    }
  },
};

const timer = setTimeout(() => {
  console.error(`Not done in ${SCENARIO_MS} ms`);
  process.exit(1); // Playwright ends its browser on exit
}, SCENARIO_MS);
const browser = await chromium.launch({ executablePath, args: FLAGS });
try {
  await scenarios[scenario](browser, ...args);
} finally {
  await browser.close();
}
clearTimeout(timer);
