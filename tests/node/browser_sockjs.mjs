/**
 * The client in pages of a Chromium: what test_browser_sockjs.py has browser.mjs run.
 *
 * A page at `page` has the class Peer of peer.mjs. Each scenario returns its peers' output, as
 * lines with this process's clock as `at` and with the transport.
 */
const PAYLOADS = ["x".repeat(60_000), "視".repeat(20_000), "👩‍👩‍👧‍👦 こんにちは 세계 e\u0301 \u2028</script>\"'\\/"];

/** A page with one peer at a time, which is driven from here. */
class Tab {
  constructor(page) {
    this.page = page;
  }

  static async open(context, { page: at, transport, record }) {
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.text().startsWith("{")) {
        const { at, ...line } = JSON.parse(message.text());
        record.add({ ...line, transport });
      } else console.error(transport, message.text());
    });
    page.on("pageerror", (error) =>
      record.add({ transport, event: "page-error", error: String(error) }),
    );
    await page.goto(at);
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

async function meet(open, transport, { url, room, record }) {
  const [first, second] = [await open(), await open()];
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
  record.add({ transport, event: "page-closed" });
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
      let framed = false;
      addEventListener("message", (message) => {
        const { type, data } = JSON.parse(message.data);
        if (type === "s") {
          framed = true;
          const urls = [base + fresh(), base];
          say("s", JSON.stringify([SockJS.version, "xhr-polling", ...urls]));
        } else resolve(data === "o" ? "open" : data);
      });
      // A browser does not report that it refused to frame a page: that one says nothing. Another
      // one has spoken by then, and will say how its connection went.
      frame.onload = () => setTimeout(() => framed || resolve("refused"), 3_000);
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

/** What is said in a scenario. */
class Record {
  lines = [];

  add(line) {
    this.lines.push({ at: Math.round(performance.now()), ...line });
  }
}

/** Lets two tabs meet over a transport. */
export async function meeting(browser, { page, url, room, transports: [transport] }) {
  const record = new Record();
  const context = await browser.newContext();
  const open = () => Tab.open(context, { page, transport, record });
  try {
    await meet(open, transport, { url, room: `${room} ${transport}`, record });
    record.add({ transport, event: "done" });
  } catch (error) {
    record.add({ transport, event: "failed", error: String(error) });
  }
  await context.close();
  return record.lines;
}

/** Lets a page try what its origin may or may not do. */
export async function tries(browser, { page, url, room, transports }) {
  const record = new Record();
  const context = await browser.newContext();
  try {
    const tab = await Tab.open(context, { page, transport: "", record });
    record.add({ event: "by-hand", found: await tab.page.evaluate(tryByHand, url) });
    for (const transport of transports) {
      const joined = tab.connect(url, transport, { name: transport, room });
      const error = await joined.then(() => null, String);
      record.add({ transport, event: "tried", error });
    }
  } finally {
    await context.close();
  }
  return record.lines;
}
