/** Rooms: a seat in one, which the client resumes after a lost connection. */

/** @import { IceServer, SignallerOptions, State, Token, Welcome } from "../videre.js" */
import { Emitter } from "./emitter.js";
import { SignallerError, unwanted } from "./errors.js";
import { BROADCAST, ROOM, SIGNALLER, check, locate, take } from "./options.js";
import { Outbox, Seen } from "./outbox.js";
import { Pacer } from "./pacer.js";
import { Polling } from "./polling.js";
import { random } from "./random.js";

/**
 * @typedef {{onopen: any, onmessage: any, onclose: any, send(text: string): void,
 *   close(code?: number): void}} Socket
 * @typedef {{resolve: (value: any) => void, reject: (error: Error) => void}} Waiting
 */

const OPEN_MS = 6_000; // for a connection to open, before the client tries another transport
const WELCOME_MS = 30_000; // for the answer to a connect: the server may delay it by 25 s
const BEATS = 2; // more heartbeats than these lose a request: the server silently drops those beyond its rates
const STEADY_MS = 10_000; // a seat held for this long resets the back-off
const HURRY_MS = 3_000; // for an answer when the network has changed
const TOKEN_MS = 60_000; // for which an unused token is kept
const ICE_RETRY_MS = 10_000; // between requests for ICE servers, if one failed
const OUTAGE_MS = 1_000; // until a broadcast that the store of the rooms could not take is sent again
const LOST = 3_000; // a close code that keeps the seat, which 1000 would give up
// The server charges a packet once for its first eight receivers, and once more for each further eight.
const CHARGED = 8;
const NOTHING = '"{}"'; // the payload of a request
const COUNTED = /connect|broadcast|role/;
// A page that is shown again, or comes from the back-forward cache, may have a dead connection.
const WAKES = ["online", "pageshow", "visibilitychange", "resume"];

/** @type {Record<"minDelay" | "maxDelay" | "heartbeat", number>} */
const DEFAULTS = { minDelay: 500, maxDelay: 30_000, heartbeat: 10_000 };

export class Signaller extends Emitter {
  /** @type {string | null} */ room = null;
  /** @type {string[]} in joining order */ users = [];
  /** @type {string | null} */ initiator = null;
  /** @type {IceServer[]} */ iceServers = [];
  /** @type {State} */ state = "closed";

  #options;
  #at; // the server's URL
  /** @type {Socket | null} */ #socket = null;
  /** @type {Socket[]} given up, but not closed, because they may hold our seat */ #abandoned = [];
  #opened = false; // whether the socket has been open
  #webSockets = false; // whether a WebSocket has ever opened: then they are not blocked
  #polling = false;
  #failures = 0;
  #since = Infinity; // when the seat was got
  #quiet = false; // whether nothing arrived since the last heartbeat
  #entered = false;
  /** @type {string | null} */ #secret = null;
  #received = 0;
  #id = 0;
  #outbox = new Outbox();
  #pacer = new Pacer();
  #seen = new Seen();
  /** @type {Map<unknown, Waiting & {beats: number}>} */ #requests = new Map();
  /** @type {Promise<Welcome> | null} */ #joining = null;
  /** @type {Waiting | null} */ #join = null;
  /** @type {{room: string, token: Promise<Token>, at: number} | null} not used yet; `at` is when it came */
  #token = null;
  #renewed = false; // whether this connection's token had expired and was replaced
  #attempts = 0; // to open a connection
  /** @type {any} until the socket must have opened, the welcome arrived, or the next attempt begins */ #timer;
  #due = 0; // when #timer is over
  /** @type {any} */ #heart;
  /** @type {any} */ #hurry;
  /** @type {any} */ #pause;
  /** @type {any} */ #iceTimer;

  /** @param {SignallerOptions} options */
  constructor(options) {
    super();
    this.#options = { ...DEFAULTS, ...check("Signaller", options, SIGNALLER) };
    this.#at = /** @type {{base: string, query: string}} */ (locate(options.url));
    this.user = options.user ?? random();
  }

  /** Whether the application can be asked for a fresh token. */
  get #renews() {
    return typeof this.#options.token === "function";
  }

  get isInitiator() {
    return this.initiator === this.user;
  }

  /**
   * Enter a room, and leave any other. Without a connection, keep trying until `leave`; a refusal
   * rejects the promise.
   * @param {string} room @returns {Promise<Welcome>}
   */
  join(room) {
    take("Signaller.join: room", ROOM, room);
    if (this.room === room && this.#joining) return this.#joining;
    this.leave();
    this.#join?.reject(unwanted()); // a listener has joined another room meanwhile
    this.#drop(1000);
    this.room = room;
    /** @type {Promise<Welcome>} */
    const joining = new Promise((resolve, reject) => (this.#join = { resolve, reject }));
    this.#joining = joining;
    this.#listen("addEventListener");
    this.#open();
    return joining; // not #joining: it may have been rejected and replaced by now
  }

  leave() {
    if (this.room === null) return;
    if (this.state === "joined") this.#write("disconnect", '""');
    this.#end(null);
  }

  /**
   * Send to all others in the room, or to these. Without a connection it waits for the next one. The
   * client sends no faster than the server's limits allow.
   * @param {any} payload @param {{to?: string | string[]}} [options]
   */
  broadcast(payload, options = {}) {
    check("Signaller.broadcast", options, BROADCAST);
    const { to } = options;
    const body = JSON.stringify(payload);
    if (body === undefined) throw new TypeError("Signaller.broadcast: payload takes a JSON value");
    if (this.room === null) throw new SignallerError("not-in-room", "Not in a room");
    if (to?.length === 0) return;
    this.#outbox.push({ To: to }, body);
    this.#flush();
  }

  /** Request the names in the room. @returns {Promise<string[]>} */
  ping() {
    return this.#request("ping");
  }

  /** Request fresh ICE servers, which become `iceServers`. @returns {Promise<IceServer[]>} */
  async ice() {
    this.#offered(await this.#request("ice"));
    return this.iceServers;
  }

  /** Check at once whether the connection is alive; without one, reconnect at once. */
  wake() {
    if (this.state === "waiting") {
      this.#failures = 0;
      this.#open();
    } else if (this.state === "joined" && !this.#hurry) {
      this.#quiet = false;
      this.#hurry = setTimeout(() => {
        this.#hurry = null;
        if (this.#quiet) this.#abandon();
      }, HURRY_MS);
      this.#beat();
    } else if (this.#socket && Date.now() > this.#due) this.#abandon(); // timers stop while the machine sleeps
  }

  /** @param {"addEventListener" | "removeEventListener"} how */
  #listen(how) {
    for (const type of WAKES) globalThis[how]?.(type, this.#wakes, true); // captures those of the document, too
  }

  #wakes = (/** @type {Event | undefined} */ event) => {
    if (event?.type !== "visibilitychange" || globalThis.document.visibilityState === "visible") this.wake();
  };

  /** @param {string} event @returns {Promise<any>} */
  #request(event) {
    return new Promise((resolve, reject) => {
      if (this.state !== "joined") throw new SignallerError("not-in-room", "Not in a room", true);
      this.#requests.set(++this.#id, { resolve, reject, beats: 0 });
      this.#write(event, NOTHING, { Id: this.#id });
    });
  }

  /**
   * @param {string} event @param {string} body @param {object} [more] keys of the header
   * @param {number} [charges] how often the server charges its bytes
   */
  #write(event, body, more, charges = 1) {
    const Header = JSON.stringify({ Event: event, UserId: this.user, RoomId: this.room, ...more });
    const text = `{"Header":${Header},"Payload":${body}}`;
    this.#pacer.take(bytes(text) * charges, event === "ping" ? 0 : 1); // the number of pings is counted separately
    this.#socket?.send(text);
    this.#show(true, text);
  }

  /** Send waiting broadcasts, as far as the limits allow now. */
  #flush() {
    clearTimeout(this.#pause);
    for (let each; this.state === "joined" && (each = this.#outbox.next); ) {
      const { header, body } = each;
      const receivers = [header.To ?? this.users.slice(1)].flat();
      const charges = Math.ceil(receivers.length / CHARGED) || 1;
      const cost = (bytes(body) + 200) * charges; // 200 for its header
      const wait = this.#pacer.wait(cost, performance.now());
      if (wait) return void (this.#pause = setTimeout(() => this.#flush(), wait));
      this.#outbox.went(++this.#id);
      this.#write("broadcast", body, { Id: this.#id, ...header }, charges);
    }
  }

  /** @param {boolean} sent @param {string} text @returns {{Header: any, Payload: any}} */
  #show(sent, text) {
    const packet = JSON.parse(text);
    this.emit("packet", { sent, size: text.length, ...packet });
    return packet;
  }

  /** @param {State} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", state);
  }

  /** Get a token, and only then open a connection. */
  #open() {
    const attempt = ++this.#attempts;
    clearTimeout(this.#timer);
    this.#become("connecting");
    if (attempt !== this.#attempts) return; // a listener called `leave`
    this.#withToken((token) => this.#connect(token));
  }

  /** Get a token, however long that takes; use it if the connection is still the same. @param {(token: Token) => void} use */
  #withToken(use) {
    const { token } = this.#options;
    if (!this.#renews) return use(token);
    const attempt = this.#attempts;
    const socket = this.#socket;
    const current = () => attempt === this.#attempts && socket === this.#socket;
    this.#ask(token).then(
      (found) => current() && use(found),
      (error) => current() && this.#refused(new SignallerError("no-token", String(error), true)),
    );
  }

  /**
   * Ask the application for a token; never call its function twice at once.
   * @param {(who: {room: string, user: string}) => Token | Promise<Token>} token @returns {Promise<Token>}
   */
  #ask(token) {
    const room = /** @type {string} */ (this.room);
    const held = this.#token;
    if (held?.room === room && Date.now() - held.at < TOKEN_MS) return held.token;
    const before = held?.token.catch(() => {}) ?? Promise.resolve();
    const asked = { room, token: before.then(() => token({ room, user: this.user })), at: Infinity };
    this.#token = asked; // for everybody who asks before it is used
    asked.token.then(
      () => (asked.at = Date.now()),
      () => (asked.at = -Infinity),
    );
    return asked.token;
  }

  /** @param {Token} token */
  #connect(token) {
    this.#opened = this.#renewed = false;
    const { SockJS, WebSocket } = /** @type {any} */ (globalThis);
    const { base, query } = this.#at;
    this.#wait(SockJS ? WELCOME_MS : OPEN_MS); // SockJS tries several transports by itself
    this.#polling = !SockJS && (this.#polling || !WebSocket);
    /** @type {Socket} */
    let socket;
    try {
      if (SockJS) socket = new SockJS(base + query);
      else if (this.#polling) socket = new Polling(base, query);
      else socket = new WebSocket(`ws${base.slice(4)}/websocket${query}`);
    } catch (error) {
      return this.#end(new SignallerError("unreachable", String(error)));
    }
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#opened = true;
      this.#webSockets ||= !this.#polling;
      this.#wait(WELCOME_MS);
      this.#pacer.begin(undefined, performance.now());
      this.#enter(token);
    };
    socket.onmessage = (/** @type {{data: string}} */ { data }) => {
      if (socket !== this.#socket) return;
      const packet = this.#show(false, data);
      if (socket === this.#socket) this.#hear(packet); // no listener has called `leave`
    };
    socket.onclose = (/** @type {CloseEvent} */ { code, reason }) => {
      if (socket === this.#socket) this.#lost(code, reason);
    };
  }

  /** Give the connection up after a time, unless the timer is set again. @param {number} ms @param {string} [why] */
  #wait(ms, why) {
    clearTimeout(this.#timer);
    this.#due = Date.now() + ms;
    this.#timer = setTimeout(() => this.#abandon(why), ms);
  }

  /** Lose a connection that may be dead, so that its seat can be resumed. */
  #abandon(why = "No answer") {
    this.#drop(LOST);
    this.#lost(LOST, why);
  }

  /** @param {number} code */
  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    // SockJS closes without a code, which would give up the seat.
    if (socket && code === LOST && "transport" in socket) this.#abandoned.push(socket);
    else socket?.close(code);
  }

  /** Close the abandoned connections: none of them holds our seat now. */
  #release() {
    for (const socket of this.#abandoned.splice(0)) socket.close();
  }

  /** @param {Token} token */
  #enter(token) {
    this.#token = null;
    const resume = this.#secret && this.state !== "joined" && { Resume: this.#secret, Received: this.#received };
    const payload = { Welcome: true, Token: token || undefined, ...resume };
    this.#write("connect", JSON.stringify(payload), { Id: "connect", ...this.#options.header?.() });
  }

  /** Enter over the existing connection, with a fresh token. */
  #enterAgain() {
    this.#withToken((token) => this.#enter(token));
  }

  /** @param {{Header: any, Payload: any}} packet */
  #hear({ Header, Payload }) {
    this.#quiet = false;
    const { Event, UserId: user, Id } = Header;
    if (COUNTED.test(Event)) this.#received++;
    if (Event === "welcome") this.#welcomed(JSON.parse(Payload));
    else if (Event === "error") this.#failed(JSON.parse(Payload), Id);
    else if (Event === "broadcast") {
      if (!this.#seen.before(user, Header)) this.emit("message", { user, payload: Payload, header: Header });
    } else if (Event === "ping" || Event === "ice") {
      this.#outbox.confirm(Id); // the server got everything that was sent before this request
      this.#pacer.take(bytes(Payload), 0); // the server charges its answers, too
      this.#answered(Id)?.resolve(JSON.parse(Payload));
    } else if (Event === "role") this.#promoted(user);
    else if (Event === "goaway") this.#wait(JSON.parse(Payload).RetryAfter, "The server stops");
    else if (Event === "disconnect") {
      this.users = this.users.filter((name) => name !== user);
      this.#seen.forget(user);
      this.emit("left", { user });
    } else if (Event === "connect" && user !== this.user) {
      this.users = [...this.users.filter((name) => name !== user), user]; // after a resume, it may be there already
      this.#seen.forget(user);
      this.emit("joined", { user, header: Header });
    } else if (Event === "connect" && this.state === "joined" && Payload === "true") {
      this.#promoted(user);
    }
  }

  /** @param {string} user */
  #promoted(user) {
    if (this.initiator === user) return;
    this.initiator = user;
    this.emit("role", { user, isInitiator: this.isInitiator });
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    const { Resumed, LastId } = welcome;
    const attempt = this.#attempts;
    this.#secret = welcome.Resume;
    this.#received = 0;
    this.users = [...welcome.Users];
    this.#offered(welcome);
    if (this.state === "joined") return; // a fresh token was accepted
    clearTimeout(this.#timer);
    this.#release();
    this.#since = Date.now();
    this.#heart = setInterval(() => this.#beat(), this.#options.heartbeat);
    const again = this.#entered;
    this.#entered = true;
    this.#pacer.begin(welcome.Limits, performance.now());
    // Send again what the server has not received. If it does not say, send nothing twice.
    this.#outbox.confirm(Resumed && LastId !== undefined ? (LastId ?? 0) : Infinity);
    this.#outbox.repeat(0);
    if (!Resumed) {
      this.#seen = new Seen();
      this.initiator = welcome.Initiator; // otherwise one of the missed packets names the next one
    }
    this.#become("joined");
    if (attempt !== this.#attempts) return; // a listener called `leave`, and perhaps `join`
    this.#flush();
    this.#join?.resolve(welcome);
    if (again) this.emit(Resumed ? "resumed" : "rejoined", welcome);
  }

  /** @param {{IceServers: IceServer[], IceTtl: number | null}} offer */
  #offered({ IceServers, IceTtl }) {
    this.iceServers = IceServers;
    clearTimeout(this.#iceTimer);
    if (IceTtl !== null) this.#iceLater(Math.min(IceTtl * 800, 2 ** 31 - 1));
  }

  /** @param {number} ms */
  #iceLater(ms) {
    const again = () => this.state === "joined" && this.#iceLater(ICE_RETRY_MS); // the next welcome brings them too
    this.#iceTimer = setTimeout(() => this.ice().catch(again), ms);
  }

  /** @param {unknown} id @returns {Waiting | undefined} the request with this id */
  #answered(id) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    return request;
  }

  /** @param {{Code: string, Message: string, Retry: boolean}} fault @param {unknown} id */
  #failed({ Code, Message, Retry }, id) {
    const error = new SignallerError(Code, Message, Retry);
    const request = this.#answered(id);
    const now = performance.now();
    if (Code === "rate-limited") {
      this.#pacer.refused(now);
      this.#repeat(id);
    } else if (Code === "unavailable" && this.#outbox.holds(id)) {
      this.#pacer.pause(now + OUTAGE_MS);
      return this.#repeat(id);
    } else this.#outbox.drop(id);
    if (request) request.reject(error);
    else this.#refused(error, id);
  }

  /**
   * Send a refused packet again, and all packets after it: the server does not say which of those it dropped.
   * @param {any} id
   */
  #repeat(id) {
    this.#outbox.repeat(id, true);
    this.#flush();
  }

  /** Handle a refused packet, or that there is no token to send. @param {SignallerError} error @param {unknown} [id] */
  #refused(error, id) {
    const renewable = error.code === "token-expired" && this.#renews;
    if (this.state === "joined") {
      if (renewable && id !== "connect") this.#enterAgain(); // unless a listener calls `leave` now
      this.emit("error", error);
    } else if (this.#secret && error.code === "unauthorized") {
      this.#secret = null; // already used, by a connection whose welcome was lost
      this.#release();
      this.#enterAgain();
    } else if (renewable && !this.#renewed) {
      this.#renewed = true; // it has waited for this connection for too long
      this.#enterAgain();
    } else if ((error.retry || renewable) && this.#entered) {
      this.#drop(1000); // it holds no seat
      this.#retry(error);
    } else this.#end(error);
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    this.#socket = null;
    const renewable = code === 4502 && this.#renews;
    if (code >= 4500 && !renewable) return this.#end(new SignallerError(code, reason));
    // If no WebSocket has ever opened, they may be blocked: alternate with polling.
    const blocked = !this.#opened && !this.#webSockets && !this.#polling;
    this.#polling = blocked;
    if (blocked && !("SockJS" in globalThis)) this.#open();
    else this.#retry(new SignallerError(code, reason || "Connection lost", true));
  }

  /** Try again after a random time (full jitter). @param {SignallerError} error */
  #retry(error) {
    if (Date.now() - this.#since > STEADY_MS) this.#failures = 0;
    this.#since = Infinity;
    const { minDelay, maxDelay } = this.#options;
    this.#stop();
    this.#timer = setTimeout(() => this.#open(), Math.random() * Math.min(maxDelay, minDelay * 2 ** this.#failures++));
    this.#become("waiting");
    this.emit("error", error);
  }

  #beat() {
    if (this.#quiet) {
      if (!this.#hurry) this.#abandon(); // otherwise `wake` has just asked
      return;
    }
    this.#quiet = true;
    this.#expire(BEATS);
    this.#write("ping", NOTHING, { Id: ++this.#id });
  }

  /** Give up the requests that have waited for more than this many heartbeats. @param {number} most */
  #expire(most) {
    for (const [id, each] of this.#requests) {
      if (each.beats++ > most) this.#answered(id)?.reject(new SignallerError("lost", "No answer", true));
    }
  }

  #stop() {
    for (const timer of [this.#timer, this.#iceTimer, this.#hurry, this.#pause]) clearTimeout(timer);
    this.#hurry = null;
    clearInterval(this.#heart);
    this.#expire(-1);
  }

  /** @param {SignallerError | null} error the reason; null after `leave` */
  #end(error) {
    this.#attempts++;
    this.#stop();
    this.#listen("removeEventListener");
    this.#drop(1000);
    this.#release();
    this.#join?.reject(error ?? unwanted());
    this.#join = this.#joining = this.#secret = this.room = this.initiator = null;
    this.#outbox = new Outbox();
    this.#seen = new Seen();
    this.users = [];
    this.#entered = false;
    this.#failures = 0;
    this.#become("closed");
    this.emit("closed", error);
  }
}

/** Return an upper bound of a text's bytes in UTF-8. @param {string} text */
function bytes(text) {
  return /^[\0-\x7f]*$/.test(text) ? text.length : text.length * 3;
}
