/**
 * Signaller of the browser client, with a fake WebSocket and clock: signaller_alone.mjs CLIENT
 *
 * Each scenario prints its results as a JSON line.
 */
import { pathToFileURL } from "node:url";

const { Signaller } = await import(pathToFileURL(process.argv[2]));

let sockets = [];
let timers = [];
let now = 0;
let skew = 0; // of the system's clock, which somebody sets

class FakeWebSocket {
  sent = [];

  constructor(url) {
    this.url = url;
    sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closed = code;
  }

  lose(code = 1006, reason = "") {
    this.onclose({ code, reason });
  }

  hears(Event, UserId, Payload, more) {
    const Header = { Event, UserId, RoomId: "room", ...more };
    this.onmessage({ data: JSON.stringify({ Header, Payload }) });
  }

  error(Code, Retry, more) {
    this.hears("error", "me", JSON.stringify({ Code, Message: Code, Retry }), more);
  }

  welcome(more = {}) {
    this.hears("connect", "me", "true");
    const seat = { Initiator: "me", Users: ["me"], Resume: `secret ${sockets.length}`, Grace: 20 };
    this.hears("welcome", "me", JSON.stringify({ ...seat, IceServers: [], IceTtl: null, ...more }));
  }
}

const wait = (callback, ms, every) => {
  timers.push({ callback, at: now + ms, ms, every });
  return timers.at(-1);
};
globalThis.WebSocket = FakeWebSocket;
globalThis.setTimeout = (callback, ms) => wait(callback, ms);
globalThis.setInterval = (callback, ms) => wait(callback, ms, ms);
globalThis.clearTimeout = globalThis.clearInterval = (timer) => {
  timers = timers.filter((each) => each !== timer);
};
Date.now = () => now + skew;
performance.now = () => now;
Math.random = () => 0.5;

/** Lets pending promises resolve. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Advances the clock. */
async function pass(ms) {
  const end = now + ms;
  for (;;) {
    const [next] = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
    if (!next) break;
    now = next.at;
    if (next.every) next.at += next.every;
    else clearTimeout(next);
    next.callback();
    await settle();
  }
  now = end;
}

/** The last connection, opened. */
async function open() {
  await settle(); // a token was asked for
  const socket = sockets.at(-1);
  socket.onopen();
  await settle();
  return socket;
}

function signaller(options) {
  const made = new Signaller({ url: "http://host/echo", user: "me", ...options });
  made.told = [];
  for (const type of ["error", "closed", "resumed", "rejoined", "role"]) {
    made.on(type, (detail) => made.told.push([type, detail?.code ?? null]));
  }
  return made;
}

async function joined(options) {
  const made = signaller(options);
  made.promise = made.join("room").catch(({ code }) => code);
  (await open()).welcome();
  await settle();
  return made;
}

const connects = () => sockets.map(({ sent }) => sent.map(({ Payload }) => Payload)).flat();

const scenarios = {
  async backOff() {
    await joined({ maxDelay: 3_000 });
    const delays = [];
    for (let tries = 0; tries < 5; tries++) {
      sockets.at(-1).lose();
      delays.push(timers.at(-1).ms);
      await pass(delays.at(-1));
    }
    (await open()).welcome();
    await pass(1_000);
    sockets.at(-1).lose(); // a seat that is lost at once is no success
    delays.push(timers.at(-1).ms);
    await pass(delays.at(-1));
    (await open()).welcome();
    await pass(1_000);
    sockets.at(-1).hears("ping", "me", "[]");
    await pass(9_500);
    sockets.at(-1).lose();
    return [...delays, timers.at(-1).ms];
  },

  async resume() {
    const made = await joined();
    const [first] = sockets;
    first.hears("connect", "you", "false");
    first.hears("broadcast", "you", 1);
    first.hears("ping", "me", "[]");
    first.error("no-such-user", false);
    first.hears("disconnect", "you", "");
    first.hears("role", "you", "true");
    first.lose();
    made.broadcast("kept");
    await pass(500);
    const second = await open();
    const asked = second.sent[0].Payload;
    second.welcome({ Resumed: true });
    second.hears("broadcast", "you", 2);
    second.lose();
    await pass(1_000);
    const third = await open();
    const rest = second.sent.slice(1).map(({ Payload }) => Payload);
    return [asked, rest, third.sent[0].Payload, made.told];
  },

  async aRoleThatChangesMeanwhile() {
    const made = signaller();
    const roles = [];
    made.on("role", (role) => roles.push(role));
    made.on("joined", () => roles.push(made.initiator));
    made.join("room");
    const seat = { Initiator: "you", Users: ["you", "me", "him"] };
    (await open()).welcome(seat);
    for (const heir of ["me", "him"]) {
      sockets.at(-1).lose();
      await pass(500);
      const socket = await open();
      socket.welcome({ Resumed: true, Initiator: heir, Users: ["me", "him", "newcomer"] });
      socket.hears("connect", "newcomer", "false"); // before the initiator left
      socket.hears("disconnect", seat.Initiator, "");
      socket.hears(heir === "me" ? "connect" : "role", heir, "true");
      seat.Initiator = heir;
    }
    return roles;
  },

  async whoCameMeanwhile() {
    const made = signaller();
    made.join("room");
    (await open()).welcome({ Users: ["me", "ann", "bob"] });
    sockets.at(-1).lose();
    await pass(500);
    const socket = await open();
    socket.welcome({ Resumed: true, Users: ["me", "bob", "ann", "eve"] });
    const found = [made.users];
    socket.hears("disconnect", "ann", "");
    socket.hears("connect", "ann", "false"); // back again
    socket.hears("connect", "eve", "false");
    return [...found, made.users];
  },

  async whatWasLost() {
    const made = await joined();
    const sends = (...words) => words.forEach((word) => made.broadcast(word));
    const [first] = sockets;
    sends("has come");
    const { Id } = first.sent.at(-1).Header;
    sends("lost 1", "lost 2");
    first.lose();
    sends("kept");
    await pass(500);
    const second = await open();
    second.welcome({ Resumed: true, LastId: Id });
    const again = second.sent.slice(1).map(({ Payload }) => Payload);
    await pass(10_000); // a heartbeat, whose answer confirms everything before it
    second.hears("ping", "me", '["me"]', { Id: second.sent.at(-1).Header.Id });
    sends("lost 3");
    second.lose();
    await pass(1_000);
    const third = await open();
    third.welcome({ Resumed: true, LastId: null }); // the server has received none
    sends("lost with the seat");
    third.lose();
    sends("kept, too");
    await pass(1_000);
    const fourth = await open();
    fourth.welcome({ Resumed: false });
    const rest = [third, fourth].map(({ sent }) => sent.slice(1).map(({ Payload }) => Payload));
    return [again, ...rest];
  },

  async tooMuchToKeep() {
    const made = await joined();
    for (let number = 0; number < 20; number++) made.broadcast(`${number} `.padEnd(60_000, "x"));
    sockets[0].lose();
    await pass(500);
    const second = await open();
    second.welcome({ Resumed: true, LastId: null });
    return second.sent.slice(1).map(({ Payload }) => parseInt(Payload));
  },

  async packets() {
    const made = signaller();
    const seen = [];
    made.on("packet", ({ sent, size, Header, Payload }) =>
      seen.push([sent, size > 60, Header.Event, Payload === 1]),
    );
    made.join("room");
    (await open()).welcome();
    made.broadcast(1);
    sockets[0].hears("broadcast", "you", 1);
    return seen;
  },

  async aSecretThatIsUsed() {
    const made = await joined();
    sockets[0].lose();
    await pass(500);
    const second = await open();
    second.error("unauthorized", false, { Id: "connect" });
    await settle();
    second.welcome();
    const { state } = made;
    return [second.sent.map(({ Payload }) => Payload), state, made.told];
  },

  async aTokenThatIsNoLongerGood() {
    const made = await joined({ token: () => "a token" });
    sockets[0].lose();
    await pass(500);
    const second = await open();
    second.error("unauthorized", false, { Id: "connect" });
    await settle();
    second.error("unauthorized", false, { Id: "connect" });
    return [made.state, made.told, timers.length];
  },

  async aSeatThatIsTaken() {
    const first = signaller();
    const refused = first.join("room").catch(({ code, retry }) => [code, retry]);
    (await open()).error("user-taken", true, { Id: "connect" });
    const again = await joined();
    sockets.at(-1).lose();
    await pass(500);
    (await open()).error("user-taken", true, { Id: "connect" });
    const { state } = again;
    await pass(1_000);
    (await open()).welcome();
    return [await refused, state, again.state, again.told];
  },

  async finalCloses() {
    const found = [];
    for (const code of [4500, 4501, 4502, 4503, 4504]) {
      const made = await joined();
      sockets.at(-1).lose(code, "so");
      found.push([made.state, made.told, timers.length]);
    }
    const renewed = await joined({ token: () => "a token" });
    sockets.at(-1).lose(4502);
    return [...found, [renewed.state, renewed.told, timers.length]];
  },

  async aConnectionThatIsDead() {
    const made = await joined();
    await pass(10_000);
    sockets[0].hears("ping", "me", '["me"]');
    await pass(10_000);
    const alive = made.state;
    await pass(10_000);
    return [alive, made.state, sockets[0].closed, sockets[0].sent.map(({ Header }) => Header.Event)];
  },

  async aServerThatGoesAway() {
    const made = await joined();
    sockets[0].hears("goaway", "me", '{"RetryAfter": 1500}');
    await pass(1_400);
    made.broadcast("meanwhile");
    const before = [made.state, sockets.length, sockets[0].sent.at(-1).Payload];
    await pass(200);
    const closed = sockets[0].closed;
    await pass(500);
    (await open()).welcome({ Resumed: true, LastId: 1 });
    await settle();
    return [before, closed, sockets[1].sent[0].Payload.Resume, made.state, made.told];
  },

  async aNetworkThatIsBack() {
    const handlers = [];
    globalThis.addEventListener = (_type, handler) => handlers.push(handler);
    globalThis.removeEventListener = (_type, handler) => handlers.splice(handlers.indexOf(handler), 1);
    const made = await joined();
    sockets[0].lose();
    handlers[0]();
    const tried = sockets.length;
    (await open()).welcome({ Resumed: true });
    handlers[0](); // another network: the connection may be dead
    await pass(3_000);
    const { state } = made;
    made.leave();
    return [tried, state, handlers.length, timers.length];
  },

  async iceServersThatEnd() {
    const made = signaller();
    made.join("room");
    const socket = await open();
    socket.welcome({ IceServers: ["old"], IceTtl: 100 });
    const found = [made.iceServers];
    for (let seconds = 0; seconds < 80; seconds += 10) {
      socket.hears("ping", "me", "[]");
      await pass(10_000);
    }
    const [{ Header }] = socket.sent.filter(({ Header }) => Header.Event === "ice");
    const fresh = JSON.stringify({ IceServers: ["new"], IceTtl: 100 });
    socket.hears("ice", "me", fresh, { Id: Header.Id });
    await settle();
    return [...found, made.iceServers];
  },

  async whatIsNotAnswered() {
    const made = signaller();
    made.join("room");
    const socket = await open();
    socket.welcome({ IceServers: [], IceTtl: 100 });
    const ends = [];
    made.ping().catch(({ code, retry }) => ends.push(code, retry, now));
    for (let seconds = 0; seconds < 150; seconds += 10) {
      await pass(10_000);
      socket.hears("ping", "me", "[]"); // of the heartbeat
    }
    const asked = socket.sent.filter(({ Header }) => Header.Event === "ice").length;
    const { state } = made;
    made.leave();
    return [ends, asked, state, timers.length];
  },

  async nothingOpens() {
    globalThis.fetch = () => Promise.reject(new TypeError("no"));
    const made = signaller();
    const joining = made.join("room").catch(({ code }) => code);
    await pass(6_000); // no WebSocket, then no polling either
    const states = [made.state, sockets[0].closed];
    await pass(500);
    states.push(made.state, sockets.length);
    made.leave();
    return [...states, await joining, made.state, timers.length];
  },

  async aUrlThatTheBrowserRefuses() {
    const real = globalThis.WebSocket;
    globalThis.WebSocket = class {
      constructor() {
        throw new Error("SecurityError");
      }
    };
    let unhandled = 0;
    const count = () => unhandled++;
    process.on("unhandledRejection", count);
    const made = signaller();
    const joining = made.join("room");
    const isPromise = joining instanceof Promise;
    const code = await joining.catch(({ code }) => code);
    await settle();
    process.off("unhandledRejection", count);
    globalThis.WebSocket = real;
    return [isPromise, code, unhandled, made.state, made.told, timers.length];
  },

  async aTokenThatTakesLong() {
    const asked = [];
    const token = (who) => new Promise((resolve) => asked.push({ who, resolve }));
    const made = signaller({ token });
    made.join("room").catch(() => {});
    await pass(100_000);
    const before = [asked.length, sockets.length, made.state];
    asked[0].resolve("a token");
    await settle();
    const socket = await open();
    const sent = socket.sent.map(({ Payload }) => Payload.Token);
    socket.welcome();
    return [before, asked.map(({ who }) => who), sent, made.state];
  },

  async aTokenForWhoHasLeft() {
    const asked = [];
    let [now, most] = [0, 0];
    const token = (who) =>
      new Promise((resolve) => {
        most = Math.max(most, ++now);
        asked.push([who.room, () => resolve((now--, `for ${who.room}`))]);
      });
    const made = signaller({ token });
    for (const room of ["room", "room", "other"]) {
      made.leave();
      made.join(room).catch(() => {});
    }
    await settle();
    const first = asked.map(([room]) => room);
    asked[0][1]();
    await settle();
    asked[1][1]();
    await settle();
    const socket = await open();
    const shown = socket.sent.map(({ Payload }) => Payload.Token);
    return [first, asked.map(([room]) => room), most, sockets.length, shown];
  },

  async aTokenThatWasNotUsed() {
    let asked = 0;
    const made = signaller({ token: () => `${++asked}` });
    made.join("room").catch(() => {});
    await settle();
    sockets[0].lose(); // the WebSocket never opened: polling is next, with the same token
    globalThis.fetch = () => Promise.reject(new TypeError("no"));
    await settle();
    const soon = asked;
    for (let tries = 0; tries < 20; tries++) await pass(30_000);
    made.leave();
    return [soon, asked > 2];
  },

  async whatWakesIt() {
    const heard = new Map();
    const listen = (type, handler) => heard.set(type, handler);
    const forget = (type, handler) => heard.get(type) === handler && heard.delete(type);
    Object.assign(globalThis, { addEventListener: listen, removeEventListener: forget });
    globalThis.document = { addEventListener: listen, removeEventListener: forget, visibilityState: "visible" };
    const found = {};
    for (const type of ["online", "pageshow", "visibilitychange", "resume"]) {
      [sockets, timers] = [[], []];
      const made = await joined();
      const wake = () => heard.get(type)({ type });
      wake();
      wake(); // several of them come at once
      const pings = sockets[0].sent.filter(({ Header }) => Header.Event === "ping").length;
      await pass(3_000); // no answer: the connection is dead
      const lost = made.state;
      wake(); // it ends the back-off
      const tried = sockets.length;
      sockets.at(-1).lose();
      const delay = timers.at(-1).ms; // and the next one starts from the beginning
      await pass(1_000);
      (await open()).welcome();
      wake();
      sockets.at(-1).hears("ping", "me", '["me"]');
      await pass(3_500);
      found[type] = [pings, lost, tried, delay, made.state];
      made.leave();
    }
    const made = await joined();
    document.visibilityState = "hidden";
    const before = sockets.at(-1).sent.length;
    heard.get("visibilitychange")({ type: "visibilitychange" });
    const hidden = sockets.at(-1).sent.length - before;
    made.leave();
    delete globalThis.document;
    return [found, hidden, heard.size, timers.length];
  },

  async aWakeUpBeforeAHeartbeat() {
    const found = [];
    for (const answers of [true, false]) {
      [sockets, timers] = [[], []];
      const made = await joined();
      await pass(9_999);
      made.wake(); // as when timers were late
      await pass(1);
      found.push(made.state);
      if (answers) sockets[0].hears("ping", "me", '["me"]');
      await pass(3_000);
      found.push(made.state);
      made.leave();
    }
    return found;
  },

  async aTokenThatExpiresOnItsWay() {
    let asked = 0;
    const made = signaller({ token: () => `${++asked}` });
    const expired = async (socket, times) => {
      for (let time = 0; time < times; time++) {
        socket.error("token-expired", false, { Id: "connect" });
        await settle();
      }
      return socket.sent.map(({ Payload }) => Payload.Token);
    };
    const refused = made.join("room").catch(({ code }) => code);
    const found = [await expired(await open(), 2), await refused, made.state];
    made.join("room").catch(() => {});
    const socket = await open();
    found.push(await expired(socket, 1));
    socket.welcome();
    socket.lose();
    await pass(500);
    found.push(await expired(await open(), 2), made.state); // a seat that it has had is worth more tries
    await pass(1_000);
    (await open()).welcome({ Resumed: true });
    found.push(made.state);
    made.leave();
    const fixed = await joined({ token: "for ever" });
    sockets.at(-1).lose();
    await pass(500);
    await expired(await open(), 1);
    return [...found, fixed.state];
  },

  async whoLeavesInAListener() {
    const found = {};
    for (const event of ["connect", "welcome", "ping"]) {
      [sockets, timers] = [[], []];
      const made = signaller();
      made.on("packet", ({ Header }) => Header.Event === event && made.leave());
      made.join("room").catch(() => {});
      (await open()).welcome();
      made.wake();
      await pass(60_000);
      found[event] = [made.state, sockets.length, timers.length];
    }
    return found;
  },

  async aSleepWhileItConnects() {
    const made = signaller();
    made.join("room").catch(() => {});
    made.wake(); // at the start of a page
    const early = [made.state, sockets[0].closed ?? null];
    now += 60_000; // timers do not run while the machine sleeps
    made.wake();
    const late = sockets[0].closed;
    made.leave();
    return [early, late];
  },

  async aServerThatGoesAwayAndAWakeUp() {
    const made = await joined();
    sockets[0].hears("goaway", "me", '{"RetryAfter": 5000}');
    made.wake();
    sockets[0].hears("ping", "me", '["me"]');
    await pass(5_100);
    return [sockets[0].closed, made.state];
  },

  async itKeepsToTheLimits() {
    const found = {};
    for (const [name, Limits] of Object.entries({
      told: { PacketsPerSecond: 10, PacketBurst: 20, BytesPerSecond: null, ByteBurst: null },
      bytes: { PacketsPerSecond: null, PacketBurst: null, BytesPerSecond: 1_000, ByteBurst: 3_000 },
      none: { PacketsPerSecond: null, BytesPerSecond: null },
      "left out": {},
      old: undefined,
    })) {
      [sockets, timers] = [[], []];
      const made = signaller();
      made.join("room");
      const socket = await open();
      socket.welcome({ Limits });
      for (let number = 0; number < 400; number++) made.broadcast(number);
      const counts = () => socket.sent.filter(({ Header }) => Header.Event === "broadcast").length;
      const at = [counts()];
      for (let seconds = 0; seconds < 2; seconds++) {
        await pass(1_000);
        at.push(counts());
      }
      const order = socket.sent.filter(({ Header }) => Header.Event === "broadcast").map(({ Payload }) => Payload);
      made.leave();
      found[name] = [at, order.every((each, index) => each === index), timers.length];
    }
    return found;
  },

  async whatReceiversCost() {
    const found = {};
    const Limits = { BytesPerSecond: 10, ByteBurst: 30_000 };
    const Users = ["me", ...Array.from({ length: 24 }, (_, number) => `${number}`)];
    for (const to of [undefined, ["0", "1"], Users.slice(1, 18), "0"]) {
      [sockets, timers] = [[], []];
      const made = signaller();
      made.join("room");
      const socket = await open();
      socket.welcome({ Limits, Users });
      const before = socket.sent.length;
      for (let number = 0; number < 400; number++) made.broadcast("x".repeat(100), { to });
      found[to === undefined ? "all" : [to].flat().length] = socket.sent.length - before;
      made.leave();
    }
    [sockets, timers] = [[], []];
    const made = signaller();
    made.join("room");
    const socket = await open();
    socket.welcome({ Limits, Users });
    socket.hears("ping", "me", JSON.stringify(["x".repeat(22_500)])); // the answer of a large room
    made.broadcast("x");
    found.answered = socket.sent.length - 1;
    made.leave();
    return found;
  },

  async aRefusalAndAClockThatIsSetBack() {
    const made = signaller();
    made.join("room");
    const socket = await open();
    socket.welcome({ Limits: { PacketsPerSecond: 10, PacketBurst: 20 } });
    for (let number = 0; number < 40; number++) made.broadcast(number);
    const [first] = socket.sent.filter(({ Header }) => Header.Event === "broadcast");
    const count = () => socket.sent.length;
    const at = [count()];
    socket.error("rate-limited", true, { Id: first.Header.Id });
    skew = -3_600_000;
    for (const ms of [1_900, 200, 1_000]) {
      await pass(ms);
      at.push(count() - at[0]);
    }
    skew = 0;
    made.leave();
    return at;
  },

  async pollingThatIsGivenUp() {
    const real = globalThis.WebSocket;
    delete globalThis.WebSocket;
    const found = {};
    for (const how of ["dead", "leave"]) {
      [sockets, timers] = [[], []];
      const [opened, requests] = [[], []];
      globalThis.fetch = (url, { signal }) => {
        opened.push(signal);
        if (opened.length === 1) return Promise.resolve({ ok: true, text: async () => "o" });
        return new Promise((resolve, reject) => {
          requests.push(() => resolve({ ok: true, text: async () => "" }));
          signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
        });
      };
      const made = signaller();
      made.join("room").catch(() => {});
      for (let turn = 0; turn < 10; turn++) await settle();
      const count = opened.length;
      if (how === "dead") await pass(30_000); // no welcome
      made.leave();
      await settle();
      const before = opened.filter(({ aborted }) => aborted).length;
      if (how === "leave") requests.forEach((answer) => answer());
      for (let turn = 0; turn < 10; turn++) await settle();
      const left = opened.filter(({ aborted }) => !aborted).length;
      found[how] = [count, before, left, timers.length];
    }
    globalThis.WebSocket = real;
    return found;
  },

  async aPageInsteadOfAFrame() {
    const real = globalThis.WebSocket;
    delete globalThis.WebSocket;
    const found = {};
    for (const page of ["<html>Please log in</html>", "", "x"]) {
      let polls = 0;
      globalThis.fetch = async (url) => {
        if (url.endsWith("/xhr") && ++polls > 100) throw new TypeError("enough");
        return { ok: true, text: async () => (polls > 2 ? page : ["", "o\n", "h\n"][polls]) };
      };
      const made = signaller();
      made.join("room").catch(() => {});
      for (let turn = 0; turn < 10; turn++) await settle();
      found[page] = [polls, made.state];
      made.leave();
    }
    globalThis.WebSocket = real;
    return found;
  },

  async whatWasRefused() {
    const made = await joined();
    for (let number = 0; number < 5; number++) made.broadcast(number);
    const [socket] = sockets;
    const ids = socket.sent.slice(1).map(({ Header }) => Header.Id);
    socket.error("rate-limited", true, { Id: ids[2] }); // the rest is dropped silently
    made.broadcast(5);
    const sent = () => socket.sent.slice(1).filter(({ Header }) => Header.Event === "broadcast");
    const atOnce = sent().length;
    socket.hears("ping", "me", "[]");
    await pass(9_000);
    const again = sent().slice(5).map(({ Header, Payload }) => [Payload, ids.indexOf(Header.Again)]);
    const rising = sent().every(({ Header }, index, all) => !index || Header.Id > all[index - 1].Header.Id);
    // The answer to a ping confirms everything sent before it, and no more.
    socket.lose();
    await pass(500);
    const second = await open();
    second.welcome({ Resumed: true, LastId: sent().at(-2).Header.Id });
    const lost = second.sent.slice(1).map(({ Payload }) => Payload);
    return [atOnce, again, rising, lost, made.told.filter(([type]) => type === "error")];
  },

  async whatIsRefusedForGood() {
    const made = await joined();
    const [first] = sockets;
    for (const word of ["heard", "refused", "lost"]) made.broadcast(word);
    const ids = first.sent.slice(1).map(({ Header }) => Header.Id);
    first.error("no-such-user", false, { Id: ids[1] });
    first.error("no-such-user", false, { Id: ids[1] }); // whatever the server repeats
    first.lose();
    await pass(500);
    const second = await open();
    second.welcome({ Resumed: true, LastId: ids[0] });
    made.broadcast("next");
    const sent = second.sent.slice(1).map(({ Payload }) => Payload);
    made.leave();
    return sent;
  },

  async refusalsWithoutEnd() {
    const made = signaller();
    made.join("room");
    const socket = await open();
    socket.welcome({ Limits: { PacketsPerSecond: 100, PacketBurst: 100 } });
    for (let times = 0; times < 20; times++) socket.error("rate-limited", true, { Id: "connect" });
    for (let number = 0; number < 300; number++) made.broadcast(number);
    const counts = [];
    for (let beats = 0; beats < 4; beats++) {
      socket.hears("ping", "me", "[]");
      await pass(10_000);
      counts.push(socket.sent.filter(({ Header }) => Header.Event === "broadcast").length);
    }
    made.leave();
    return counts;
  },

  async whatSockJSAbandons() {
    const made = [];
    globalThis.SockJS = class extends FakeWebSocket {
      transport = "websocket";
      closes = [];

      constructor(url) {
        super(url);
        made.push(this);
      }

      close(code) {
        this.closes.push(code ?? null);
      }
    };
    const closes = () => made.map(({ closes }) => closes.length);
    const found = {};
    for (const how of ["leave", "resume", "a used secret", "a refusal"]) {
      [sockets, timers] = [[], []];
      made.length = 0;
      const seat = await joined();
      await pass(20_000); // no answer to a heartbeat
      found[how] = [seat.state, closes()]; // it still holds the seat
      if (how === "leave") seat.leave();
      else {
        await pass(500);
        const socket = await open();
        if (how === "resume") socket.welcome({ Resumed: true });
        else if (how === "a refusal") socket.error("user-taken", true, { Id: "connect" });
        else socket.error("unauthorized", false, { Id: "connect" });
      }
      found[how].push(closes());
      seat.leave();
      found[how].push(closes(), timers.length);
    }
    delete globalThis.SockJS;
    return found;
  },

  async whoJoinsAnotherRoomInAListener() {
    const made = signaller();
    let moved = null;
    made.on("state", (state) => {
      if (state === "joined" && made.room === "room") moved = made.join("other");
    });
    const first = made.join("room").catch(({ code }) => code);
    sockets[0].onopen();
    sockets[0].welcome();
    const ends = [await first];
    moved.then(({ Initiator }) => ends.push(Initiator));
    await settle();
    ends.push(made.state);
    sockets[1].onopen();
    sockets[1].welcome({ Initiator: "other's" });
    await settle();
    made.leave();
    return ends;
  },

  async whoJoinsWhenItLeaves() {
    const made = await joined();
    const ends = [];
    const join = (room) => made.join(room).then(() => ends.push(room), ({ code }) => ends.push([room, code]));
    made.on("closed", () => ends.length || join("lobby"));
    join("other");
    await settle();
    (await open()).welcome();
    await settle();
    const found = [ends, made.room, sockets.map(({ closed }) => closed ?? null)];
    made.leave();
    return found;
  },

  async whoLeavesWhenATokenExpires() {
    const asked = [];
    const made = await joined({ token: ({ room }) => (asked.push(room), "a token") });
    made.on("error", () => made.leave());
    const seen = [];
    made.on("packet", ({ Header }) => seen.push(Header.Event));
    sockets[0].error("token-expired", false);
    await settle();
    return [asked.includes(null), seen, made.state];
  },

  async whatTheStoreCouldNotTake() {
    const made = await joined();
    const [socket] = sockets;
    const sent = () => socket.sent.filter(({ Header }) => Header.Event === "broadcast");
    for (let number = 0; number < 4; number++) made.broadcast(number);
    const ids = sent().map(({ Header }) => Header.Id);
    made.ping();
    const ping = socket.sent.at(-1).Header;
    const refuse = (id) => socket.error("unavailable", true, { Id: id });
    ids.slice(1).forEach(refuse);
    socket.hears("ping", "me", "[]", { Id: ping.Id }); // confirms the first broadcast alone
    made.broadcast(4);
    const counts = [];
    const wait = async (ms) => {
      await pass(ms);
      counts.push(sent().length);
    };
    await wait(999);
    await wait(1);
    sent().slice(4).forEach(({ Header }) => refuse(Header.Id)); // the store is still away
    await wait(999);
    await wait(1);
    const again = sent().slice(8).map(({ Header, Payload }) => [Payload, ids.indexOf(Header.Again)]);
    const hidden = made.told.length;
    const asked = made.ice().catch(({ code }) => code);
    refuse(socket.sent.at(-1).Header.Id);
    refuse(ids[0]); // no longer kept
    await wait(2_000);
    return [counts, again, hidden, await asked, made.told];
  },

  async aLimitWhileTheStoreIsAway() {
    const made = signaller();
    made.join("room");
    const socket = await open();
    socket.welcome({ Limits: { PacketsPerSecond: 10, PacketBurst: 20 } });
    for (let number = 0; number < 2; number++) made.broadcast(number);
    const [, first, second] = socket.sent.map(({ Header }) => Header.Id);
    socket.error("rate-limited", true, { Id: first });
    socket.error("unavailable", true, { Id: second });
    const counts = [];
    for (const ms of [1_900, 200]) {
      await pass(ms);
      counts.push(socket.sent.length);
    }
    made.leave();
    return counts;
  },

  async whatHasComeBefore() {
    const made = await joined();
    const heard = [];
    made.on("message", ({ payload }) => heard.push(payload));
    const [socket] = sockets;
    const says = (payload, head) => socket.hears("broadcast", "you", payload, head);
    socket.hears("connect", "you", "false");
    says("1", { Id: 1 });
    says("3", { Id: 3 });
    says("2, late", { Id: 4, Again: 2 });
    says("3, again", { Id: 5, Again: 3 });
    says("3, once more", { Id: 6, Again: 3 });
    says("same id", { Id: 6 }); // from a client that does not number its packets
    says("same id", { Id: 6 });
    socket.hears("disconnect", "you", "");
    socket.hears("connect", "you", "false");
    says("3, of a new session", { Id: 9, Again: 3 });
    return heard;
  },

  async wrongOptions() {
    const tries = {
      nothing: () => new Signaller(),
      "no url": () => new Signaller({}),
      "another scheme": () => new Signaller({ url: "ftp://h/echo" }),
      "no URL at all": () => new Signaller({ url: "http://" }),
      "relative, without a page": () => new Signaller({ url: "/echo" }),
      typo: () => new Signaller({ url: "http://h/echo", tokens: "a" }),
      user: () => new Signaller({ url: "http://h/echo", user: 7 }),
      "long user": () => new Signaller({ url: "http://h/echo", user: "x".repeat(129) }),
      "empty user": () => new Signaller({ url: "http://h/echo", user: "" }),
      token: () => new Signaller({ url: "http://h/echo", token: {} }),
      header: () => new Signaller({ url: "http://h/echo", header: {} }),
      delay: () => new Signaller({ url: "http://h/echo", minDelay: "1" }),
      endless: () => new Signaller({ url: "http://h/echo", maxDelay: Infinity }),
      heartbeat: () => new Signaller({ url: "http://h/echo", heartbeat: 0 }),
      "heartbeat, never": () => new Signaller({ url: "http://h/echo", heartbeat: 2 ** 31 }),
      "delay, never": () => new Signaller({ url: "http://h/echo", maxDelay: 1e12 }),
      room: () => signaller().join(7),
      "no room": () => signaller().join(""),
      "control character": () => signaller().join("a\nb"),
      payload: () => signaller().broadcast(undefined),
      to: () => signaller().broadcast("a", { to: 7 }),
      "list of to": () => signaller().broadcast("a", { to: [7] }),
      "options of broadcast": () => signaller().broadcast("a", "b"),
    };
    const found = {};
    for (const [name, attempt] of Object.entries(tries)) {
      try {
        attempt();
        found[name] = "taken";
      } catch (error) {
        found[name] = error instanceof TypeError ? error.message : `${error}`;
      }
    }
    return [found, sockets.length, timers.length];
  },

  async theQueryIsKept() {
    const urls = ["http://h/echo?node=1", "https://h/echo/?a=b&c=%2F", "ws://h/echo/websocket?x"];
    for (const url of urls) signaller({ url }).join("room");
    const found = sockets.map(({ url }) => url);
    const real = globalThis.WebSocket;
    delete globalThis.WebSocket;
    globalThis.fetch = async (url) => {
      found.push(url.replace(/000\/\w+/, "000/session"));
      return { ok: false };
    };
    const polling = signaller({ url: urls[0] });
    polling.join("room").catch(() => {});
    await settle();
    polling.leave();
    globalThis.SockJS = class {
      constructor(url) {
        found.push(url);
      }
      close() {}
    };
    const sockjs = signaller({ url: urls[0] });
    sockjs.join("room").catch(() => {});
    sockjs.leave();
    delete globalThis.SockJS;
    globalThis.WebSocket = real;
    return found;
  },

  async whereItConnects() {
    const urls = ["http://h/echo", "https://h/echo/", "ws://h/a/echo/websocket", "wss://h:1/echo"];
    for (const url of urls) signaller({ url }).join("room");
    return sockets.map(({ url }) => url);
  },
};

for (const [scenario, play] of Object.entries(scenarios)) {
  [sockets, timers, now] = [[], [], 0];
  console.log(JSON.stringify({ scenario, found: await play() }));
}
