/**
 * The browser client of videre-server: calls (`Videre`), and rooms alone (`Signaller`).
 *
 * A module without dependencies, as it is served. docs/browser.md is its reference, and
 * docs/protocol.md what goes over the wire.
 *
 * @typedef {{urls: string | string[], username?: string, credential?: string}} IceServer
 * @typedef {{Initiator: string, Users: string[], Resume: string | null, Grace: number,
 *   Resumed?: boolean, LastId?: number | null, IceServers: IceServer[], IceTtl: number | null}} Welcome
 * @typedef {"closed" | "connecting" | "joined" | "waiting"} State
 * @typedef {string | undefined | null} Token
 * @typedef {{
 *   url: string,
 *   user?: string,
 *   token?: Token | ((who: {room: string, user: string}) => Token | Promise<Token>),
 *   header?: () => object,
 *   minDelay?: number,
 *   maxDelay?: number,
 *   heartbeat?: number,
 * }} SignallerOptions
 *
 * @typedef {{onopen: any, onmessage: any, onclose: any, send(text: string): void,
 *   close(code?: number): void}} Socket
 * @typedef {{resolve: (value: any) => void, reject: (error: Error) => void}} Waiting
 */

const OPEN_MS = 6_000; // for a connection to open, before another way is tried
const WELCOME_MS = 30_000; // for the answer to a connect: the server may delay it by 25 s
const STEADY_MS = 10_000; // a seat that was held so long was worth a quick return
const HURRY_MS = 3_000; // for an answer when the network has changed
const BREAK_MS = 4_000; // for a call to come back by itself, before another way is looked for
const ANSWERS = 10; // to one member's signals at once: all seven others of a mesh stay within our rate
const ANSWER_MS = 1_000; // for one more
const CALL_COST = 5; // answers that a new call is worth: it sends its candidates, too
const MAX_HELD = 64; // of one member's signals
const LOST = 3_000; // the close code that keeps the seat, as 1000 would not
const OUTBOX = 2 ** 20; // characters of broadcasts that may have to be sent again
const COUNTED = ["connect", "disconnect", "broadcast", "role"];

/** An error with the protocol's code: a word, or the number with which a connection was closed. */
export class SignallerError extends Error {
  /**
   * @param {string | number} code
   * @param {string} message
   * @param {boolean} retry whether the same may succeed later
   */
  constructor(code, message, retry = false) {
    super(message);
    this.name = "SignallerError";
    this.code = code;
    this.retry = retry;
  }
}

// Not randomUUID, which pages without TLS do not have.
const random = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => (byte % 36).toString(36)).join("");

/** What both classes do: tell of an event, with its `detail`. */
class Emitter extends EventTarget {
  /** @param {string} type @param {any} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /**
   * As addEventListener, but hands over the detail alone.
   * @param {string} type @param {(detail: any) => void} listener @returns {this}
   */
  on(type, listener) {
    this.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
    return this;
  }
}

/** SockJS's xhr-polling with the face of a WebSocket, for where those are blocked. */
class Polling {
  /** @type {any} */ onopen;
  /** @type {any} */ onmessage;
  /** @type {any} */ onclose;
  #url;
  #aborter = new AbortController();
  /** @type {string[]} */ #texts = [];
  /** @type {Promise<void> | null} */ #sending = null;

  /** @param {string} url */
  constructor(url) {
    this.#url = `${url}/000/${random()}`;
    this.#poll();
  }

  /** @param {string} text */
  send(text) {
    this.#texts.push(text);
    this.#sending ??= this.#flush();
  }

  async close() {
    await this.#sending;
    this.#aborter.abort();
  }

  /** @param {string} path @param {RequestInit} more */
  async #post(path, more) {
    // The cookie is for balancers that need one to find the server again.
    const options = { method: "POST", credentials: /** @type {const} */ ("include"), ...more };
    const answer = await fetch(this.#url + path, options);
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.text();
  }

  async #poll() {
    let code = 1006;
    let reason = "";
    try {
      while (code === 1006) {
        const frame = await this.#post("/xhr", { signal: this.#aborter.signal });
        if (frame[0] === "o") this.onopen();
        else if (frame[0] === "a") JSON.parse(frame.slice(1)).forEach(this.#hear, this);
        else if (frame[0] === "c") [code, reason] = JSON.parse(frame.slice(1));
      }
    } catch {
      // What is wrong with a request a page is not told.
    }
    this.onclose({ code, reason });
  }

  /** @param {string} data */
  #hear(data) {
    this.onmessage({ data });
  }

  async #flush() {
    while (this.#texts.length) {
      const body = JSON.stringify(this.#texts.splice(0));
      // What a page says as it goes has to be less than 64 KiB: a character has up to four bytes.
      await this.#post("/xhr_send", { body, keepalive: body.length < 15_000 }).catch(() => {
        this.#texts = [];
        this.#aborter.abort();
      });
    }
    this.#sending = null;
  }
}

/**
 * A seat in a room, which is kept when the connection is lost.
 *
 * Events, with their detail: `joined` {user, header}, `left` {user}, `message` {user, payload,
 * header}, `role` {user, isInitiator}, `state` the state, `resumed` and `rejoined` the welcome,
 * `error` and `closed` a SignallerError (`closed` null after `leave`), `packet` {sent, size, Header,
 * Payload}: each packet as it is on the wire.
 */
export class Signaller extends Emitter {
  /** @type {string | null} */ room = null;
  /** @type {string[]} who is in the room, in joining order */ users = [];
  /** @type {string | null} */ initiator = null;
  /** @type {IceServer[]} */ iceServers = [];
  /** @type {State} */ state = "closed";

  #options;
  /** @type {Socket | null} */ #socket = null;
  #opened = false; // the socket was, once
  #webSockets = false; // one has been open once, so they are not blocked
  #polling = false;
  #failures = 0;
  #since = 0;
  #quiet = false; // nothing was heard since the last heartbeat
  #entered = false;
  /** @type {string | null} */ #secret = null;
  #received = 0;
  #id = 0;
  /** @type {{id: number, text: string, sent: boolean}[]} broadcasts, until the server has them */
  #outbox = [];
  #size = 0; // of the outbox
  /** @type {Map<unknown, Waiting>} */ #requests = new Map();
  /** @type {Promise<Welcome> | null} */ #joining = null;
  /** @type {Waiting | null} */ #join = null;
  /** @type {any} the one thing that is waited for: to open, to be welcomed, to try again */ #timer;
  /** @type {any} */ #heart;
  /** @type {any} */ #iceTimer;

  /** @param {SignallerOptions} options */
  constructor(options) {
    super();
    const url = new URL(options.url, globalThis.location?.href);
    this.url = url.href.replace(/^ws/, "http").replace(/\/(websocket\/?)?$/, "");
    this.user = options.user ?? random();
    this.#options = { minDelay: 500, maxDelay: 30_000, heartbeat: 10_000, ...options };
  }

  get isInitiator() {
    return this.initiator === this.user && this.room !== null;
  }

  /**
   * Enter a room, and leave any other. Where there is no connection it is tried until there is one,
   * or until `leave`; a refusal rejects the promise.
   * @param {string} room @returns {Promise<Welcome>}
   */
  join(room) {
    if (this.room === room && this.#joining) return this.#joining;
    this.leave();
    this.room = room;
    this.#joining = new Promise((resolve, reject) => (this.#join = { resolve, reject }));
    globalThis.addEventListener?.("online", this.#online);
    this.#open();
    return this.#joining;
  }

  leave() {
    if (this.room === null) return;
    if (this.state === "joined") this.#send("disconnect", "");
    this.#end(null);
  }

  /**
   * Send to all others in the room, or to these. Without a connection it waits for the next one.
   * @param {any} payload @param {{to?: string | string[]}} [options]
   */
  broadcast(payload, { to } = {}) {
    if (this.room === null) throw new SignallerError("not-in-room", "Not in a room");
    if (to === undefined) this.#send("broadcast", payload);
    else if (to.length) this.#send("broadcast", payload, { To: to });
  }

  /** Ask who is in the room. @returns {Promise<string[]>} */
  ping() {
    return this.#request("ping");
  }

  /** Ask for fresh ICE servers, which become `iceServers`. @returns {Promise<IceServer[]>} */
  async ice() {
    this.#offered(await this.#request("ice"));
    return this.iceServers;
  }

  /** @param {string} event @returns {Promise<any>} */
  #request(event) {
    return new Promise((resolve, reject) => {
      if (this.state !== "joined") throw new SignallerError("not-in-room", "Not in a room", true);
      this.#requests.set(++this.#id, { resolve, reject });
      this.#send(event, "{}", { Id: this.#id });
    });
  }

  /** @param {string} event @param {any} payload @param {object} [more] of the header */
  #send(event, payload, more) {
    const Id = event === "broadcast" ? ++this.#id : undefined;
    const Header = { Event: event, UserId: this.user, RoomId: this.room, Id, ...more };
    const text = JSON.stringify({ Header, Payload: payload });
    const sent = this.state === "joined" || event === "connect";
    if (Id) {
      this.#outbox.push({ id: Id, text, sent });
      this.#size += text.length;
      // Of a connection that is dead no more is lost than the buffers of the system take.
      while (this.#size > OUTBOX && this.#outbox[0].sent) this.#confirm(this.#outbox[0].id);
    }
    if (sent) this.#write(text);
  }

  /** @param {string} text */
  #write(text) {
    this.#socket?.send(text);
    this.#seen(true, text);
  }

  /** @param {boolean} sent @param {string} text @returns {{Header: any, Payload: any}} */
  #seen(sent, text) {
    const packet = JSON.parse(text);
    this.emit("packet", { sent, size: text.length, ...packet });
    return packet;
  }

  /** Let go of what the server has: all up to this packet. @param {number} id */
  #confirm(id) {
    while (this.#outbox.length && this.#outbox[0].id <= id) {
      this.#size -= /** @type {{text: string}} */ (this.#outbox.shift()).text.length;
    }
  }

  /** Send what was not, and what was lost. @param {Welcome} welcome */
  #repeat({ Resumed, LastId }) {
    if (Resumed && LastId !== undefined) this.#confirm(LastId ?? 0);
    // Else nobody knows whether they have arrived: once at the most.
    else this.#confirm(this.#outbox.filter(({ sent }) => sent).at(-1)?.id ?? 0);
    for (const packet of [...this.#outbox]) {
      packet.sent = true;
      this.#write(packet.text);
    }
  }

  /** @param {State} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", state);
  }

  #open() {
    this.#become("connecting");
    this.#opened = false;
    const { SockJS, WebSocket } = /** @type {any} */ (globalThis);
    this.#wait(SockJS ? WELCOME_MS : OPEN_MS); // SockJS tries several ways by itself
    this.#polling = !SockJS && (this.#polling || !WebSocket);
    /** @type {Socket} */
    let socket;
    try {
      if (SockJS) socket = new SockJS(this.url);
      else if (this.#polling) socket = new Polling(this.url);
      else socket = new WebSocket(`${this.url.replace(/^http/, "ws")}/websocket`);
    } catch (error) {
      return this.#end(new SignallerError("unreachable", String(error)));
    }
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#opened = true;
      this.#webSockets ||= !SockJS && !this.#polling;
      this.#wait(WELCOME_MS);
      this.#enter();
    };
    socket.onmessage = (/** @type {{data: string}} */ { data }) => {
      if (socket === this.#socket) this.#hear(this.#seen(false, data));
    };
    socket.onclose = (/** @type {CloseEvent} */ { code, reason }) => {
      if (socket === this.#socket) this.#lost(code, reason);
    };
  }

  /** Give the connection up, if nothing comes before. @param {number} ms @param {string} [why] */
  #wait(ms, why) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abandon(why), ms);
  }

  /** Lose a connection, maybe a dead one: its seat is to be resumed, not left. */
  #abandon(why = "No answer") {
    this.#drop(LOST);
    this.#lost(LOST, why);
  }

  /** @param {number} code */
  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    // SockJS closes without a code, which would give up the seat. The server closes it after a resume.
    if (socket && (code !== LOST || !("transport" in socket))) socket.close(code);
  }

  async #enter() {
    const socket = this.#socket;
    const room = /** @type {string} */ (this.room);
    const { token, header } = this.#options;
    /** @type {Token} */
    let Token;
    try {
      Token = typeof token === "function" ? await token({ room, user: this.user }) : token;
    } catch (error) {
      if (socket === this.#socket) this.#refused(new SignallerError("no-token", String(error), true));
      return;
    }
    if (socket !== this.#socket) return;
    /** @type {Record<string, any>} */
    const payload = { Welcome: true };
    if (Token) payload.Token = Token;
    if (this.#secret && this.state !== "joined") {
      Object.assign(payload, { Resume: this.#secret, Received: this.#received });
    }
    this.#send("connect", payload, { Id: "connect", ...header?.() });
  }

  /** @param {{Header: any, Payload: any}} packet */
  #hear({ Header, Payload }) {
    this.#quiet = false;
    const { Event, UserId: user, Id } = Header;
    if (COUNTED.includes(Event)) this.#received++;
    if (Event === "welcome") this.#welcomed(JSON.parse(Payload));
    else if (Event === "error") this.#failed(JSON.parse(Payload), Id);
    else if (Event === "broadcast") this.emit("message", { user, payload: Payload, header: Header });
    else if (Event === "ping" || Event === "ice") {
      this.#confirm(Id); // what was sent before it has come before it
      this.#answered(Id)?.resolve(JSON.parse(Payload));
    }
    else if (Event === "role") this.#promoted(user);
    else if (Event === "goaway") this.#wait(JSON.parse(Payload).RetryAfter, "The server goes away");
    else if (Event === "disconnect") {
      this.users = this.users.filter((name) => name !== user);
      this.emit("left", { user });
    } else if (Event === "connect" && user !== this.user) {
      if (!this.users.includes(user)) this.users.push(user);
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
    this.#secret = welcome.Resume;
    this.#received = 0;
    this.users = [...welcome.Users];
    this.initiator = welcome.Initiator;
    this.#offered(welcome);
    if (this.state === "joined") return; // a fresh token was accepted
    clearTimeout(this.#timer);
    this.#since = Date.now();
    this.#quiet = false;
    this.#heart = setInterval(() => this.#beat(), this.#options.heartbeat);
    const again = this.#entered;
    this.#entered = true;
    this.#repeat(welcome);
    if (this.#socket) this.#become("joined");
    if (!this.#socket) return; // left by who heard of it
    this.#join?.resolve(welcome);
    if (again) this.emit(welcome.Resumed ? "resumed" : "rejoined", welcome);
  }

  /** @param {{IceServers: IceServer[], IceTtl: number | null}} offer */
  #offered({ IceServers, IceTtl }) {
    this.iceServers = IceServers;
    clearTimeout(this.#iceTimer);
    if (IceTtl === null) return;
    const ms = Math.min(IceTtl * 800, 2 ** 31 - 1);
    this.#iceTimer = setTimeout(() => this.ice().catch(() => {}), ms); // a welcome brings them too
  }

  /** @param {unknown} id @returns {Waiting | undefined} who waits for this answer */
  #answered(id) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    return request;
  }

  /** @param {{Code: string, Message: string, Retry: boolean}} fault @param {unknown} id */
  #failed({ Code, Message, Retry }, id) {
    const error = new SignallerError(Code, Message, Retry);
    const request = this.#answered(id);
    if (request) request.reject(error);
    else if (this.state !== "joined") this.#refused(error);
    else {
      this.emit("error", error);
      const renewable = typeof this.#options.token === "function" && id !== "connect";
      if (Code === "token-expired" && renewable) this.#enter();
    }
  }

  /** Hear that a connect was refused. @param {SignallerError} error */
  #refused(error) {
    if (this.state === "joined") this.emit("error", error);
    else if (this.#secret && error.code === "unauthorized") {
      this.#secret = null; // used already, in a connection whose welcome was lost
      this.#enter();
    } else if (error.retry && this.#entered) {
      this.#drop(LOST);
      this.#retry(error);
    } else this.#end(error);
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    this.#socket = null;
    this.#stop();
    const fresh = code === 4502 && typeof this.#options.token === "function";
    if (code >= 4500 && code < 5000 && !fresh) return this.#end(new SignallerError(code, reason));
    // WebSockets that have never opened may be blocked: polling has its turn, and so on.
    const blocked = !this.#opened && !this.#webSockets && !this.#polling;
    this.#polling = blocked;
    if (blocked && !("SockJS" in globalThis)) this.#open();
    else this.#retry(new SignallerError(code, reason || "The connection was lost", true));
  }

  /** Try again, after a while of full jitter. @param {SignallerError} error */
  #retry(error) {
    if (this.#since && Date.now() - this.#since > STEADY_MS) this.#failures = 0;
    this.#since = 0;
    const { minDelay, maxDelay } = this.#options;
    const most = Math.min(maxDelay, minDelay * 2 ** this.#failures++);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), Math.random() * most);
    this.#become("waiting");
    this.emit("error", error);
  }

  #beat() {
    if (this.#quiet) return this.#abandon();
    this.#quiet = true;
    this.#send("ping", "{}", { Id: ++this.#id });
  }

  #online = () => {
    if (this.state === "waiting") this.#open();
    else if (this.state === "joined") {
      this.#quiet = false;
      this.#beat();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#quiet && this.#abandon(), HURRY_MS);
    }
  };

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#iceTimer);
    clearInterval(this.#heart);
    const lost = new SignallerError("lost", "The connection was lost", true);
    for (const { reject } of this.#requests.values()) reject(lost);
    this.#requests.clear();
  }

  /** @param {SignallerError | null} error why, if not by `leave` */
  #end(error) {
    this.#stop();
    globalThis.removeEventListener?.("online", this.#online);
    this.#drop(1000);
    this.#join?.reject(error ?? new SignallerError("left", "Left before the room was entered"));
    this.#join = this.#joining = this.#secret = this.room = this.initiator = null;
    this.#outbox = [];
    this.#size = 0;
    this.users = [];
    this.#entered = false;
    this.#failures = this.#since = 0;
    this.#become("closed");
    this.emit("closed", error);
  }
}

/**
 * @typedef {{
 *   signallerURL: string,
 *   localVideoElement?: HTMLVideoElement | null,
 *   remoteVideoElement?: HTMLVideoElement | null,
 *   initComplete?: () => void,
 *   userId?: string,
 *   token?: SignallerOptions["token"],
 *   constraints?: MediaStreamConstraints | false,
 *   configuration?: RTCConfiguration,
 * }} VidereOptions
 * @typedef {{Type: string, IcePacket?: any, Call?: string, Offer?: number, Turn?: number, candidate?: string,
 *   sdpMid?: string, sdpMLineIndex?: number}} Signal
 * @typedef {string | Blob | ArrayBuffer | ArrayBufferView} Data
 *
 * @typedef {"audio" | "video"} Kind
 */

const KINDS = /** @type {Kind[]} */ (["audio", "video"]);

/**
 * Holds back one member's signals that we would answer too often: each answer counts towards our own
 * rate, and the server closes those who exceed it. What waits is taken in order; what waits already,
 * word for word, does not wait twice.
 */
class Pace {
  #left = ANSWERS;
  #at = performance.now();
  #timer = 0;
  /** @type {{text: string, cost: number, take: () => void}[]} */ #held = [];

  /** @param {string} text the signal @param {number} cost in answers @param {() => void} take */
  pass(text, cost, take) {
    const held = this.#held;
    if (held.length >= MAX_HELD || (cost && held.some((one) => one.text === text))) return;
    held.push({ text, cost, take });
    if (!this.#timer) this.#go();
  }

  #go() {
    const now = performance.now();
    this.#left = Math.min(ANSWERS, this.#left + (now - this.#at) / ANSWER_MS);
    this.#at = now;
    this.#timer = 0;
    for (let [first] = this.#held; first && first.cost <= this.#left; [first] = this.#held) {
      this.#held.shift();
      this.#left -= first.cost;
      first.take();
    }
    if (this.#held.length) this.#timer = setTimeout(() => this.#go(), ANSWER_MS);
  }
}

/**
 * The call with one other member, in `videre.peers`.
 *
 * The member who was there first makes the call, names it (`Call`), and makes the offers. The other
 * asks for its turn to make one ("Ice Ask", "Ice Turn"), so that two offers never meet and none is
 * ever rolled back: after a rollback Chromium shows no more of the video that it receives. Offers are
 * numbered, for answers to say which one they answer, and so are turns. All that is sent may be sent
 * again. An old client knows nothing of this: its calls have no name, and it never asks.
 */
export class Peer {
  /** All that is received. */
  stream = new MediaStream();
  #videre;
  #ours; // the turn
  #told = false;
  #due = false; // an offer of ours
  #asked = false; // for the turn, by the other
  #lent = false; // the turn, to the other
  #turn = 0; // how often it was
  #offers = 0; // made
  #offer = 0; // the last one that was taken
  /** @type {Promise<void>} */ #last = Promise.resolve();
  /** @type {Data[]} */ #unsent = [];

  /**
   * @param {Videre} videre @param {string} user
   * @param {string | undefined} call its name, none with an old client
   * @param {boolean} caller whether we make it
   */
  constructor(videre, user, call, caller) {
    this.user = user;
    this.call = call;
    this.#videre = videre;
    this.#ours = caller || !call;
    const { iceServers } = videre.signaller;
    const pc = (this.connection = new RTCPeerConnection({ iceServers, ...videre.configuration }));
    for (const kind of KINDS) {
      const track = videre.track(kind);
      if (track) pc.addTrack(track, ...(videre.localStream ? [videre.localStream] : []));
      else if (caller) pc.addTransceiver(kind, { direction: "recvonly" });
    }
    /** The data channel of `videre.send`; an old client knows nothing of it. */
    this.channel = call ? pc.createDataChannel("videre", { negotiated: true, id: 0 }) : null;
    if (this.channel) {
      this.channel.binaryType = "arraybuffer";
      this.channel.onopen = () => this.#unsent.splice(0).forEach(this.send, this);
      this.channel.onmessage = ({ data }) => videre.emit("message", { user, data });
    }
    pc.ontrack = ({ track }) => this.stream.addTrack(track);
    pc.onicecandidate = ({ candidate }) => candidate && this.#trickle(candidate.toJSON());
    pc.onnegotiationneeded = () => {
      this.#due = true;
      if (this.#ours) this.#queue(() => this.#advance());
      else this.#signal({ Type: "Ice Ask" });
    };
    pc.onconnectionstatechange = () => this.#changed();
  }

  /** @returns {RTCPeerConnectionState} */
  get state() {
    return this.connection.connectionState;
  }

  /** @param {Data} data */
  send(data) {
    if (this.channel?.readyState === "open") this.channel.send(/** @type {any} */ (data));
    else if (this.channel) this.#unsent.push(data);
  }

  /**
   * Send this track in place of the last one of its kind.
   * @param {Kind} kind @param {MediaStreamTrack | null} track
   */
  async replace(kind, track) {
    const fits = (/** @type {RTCRtpTransceiver} */ { receiver }) => receiver.track.kind === kind;
    const transceiver = this.connection.getTransceivers().find(fits);
    if (!transceiver) return track && void this.connection.addTrack(track);
    if (track && !/send/.test(transceiver.direction)) transceiver.direction = "sendrecv";
    await transceiver.sender.replaceTrack(track);
  }

  /** Do again what may have been lost while there was no connection to the signaller. */
  repair() {
    const { localDescription, signalingState } = this.connection;
    if (signalingState === "have-local-offer" || localDescription?.type === "answer") this.#describe();
    if (this.#lent) this.#lend();
    if (this.#due && !this.#ours) this.#signal({ Type: "Ice Ask" });
    if (this.state !== "connected") this.restart();
  }

  /** Find a new way to the other, with ICE servers that are good now. */
  restart() {
    const { connection: pc } = this;
    const { iceServers } = this.#videre.signaller;
    pc.setConfiguration({ ...pc.getConfiguration(), iceServers, ...this.#videre.configuration });
    pc.restartIce();
  }

  close() {
    this.connection.onconnectionstatechange = null;
    this.connection.close();
  }

  /** Take what the other has sent. @param {Signal} signal */
  hear(signal) {
    this.#queue(async () => {
      await this.#take(signal);
      if (!this.#told && this.stream.getTracks().length) {
        this.#told = true;
        this.#videre.received(this);
      }
      await this.#advance();
    });
  }

  /** Take one step after the other. @param {() => Promise<void>} step */
  #queue(step) {
    this.#last = this.#last.then(step).catch((error) => {
      if (this.connection.signalingState !== "closed") this.#videre.emit("error", error);
    });
  }

  /** @param {Signal} signal */
  async #take(signal) {
    const { connection: pc } = this;
    const { Type, IcePacket, Offer, Turn } = signal;
    const { signalingState } = pc;
    if (Type === "Ice Candidate") {
      // In the old client's candidates there is no IcePacket. One may be of a way that was given up:
      // then it is of no use.
      const { candidate, sdpMid, sdpMLineIndex } = IcePacket ?? signal;
      await pc.addIceCandidate({ candidate, sdpMid, sdpMLineIndex }).catch(() => {});
    } else if (Type === "Ice Answer") {
      if (signalingState !== "have-local-offer" || (this.call && Offer !== this.#offers)) return;
      await pc.setRemoteDescription(IcePacket);
    } else if (Type === "Ice Offer") {
      if (signalingState !== "stable") return;
      await pc.setRemoteDescription(IcePacket);
      this.#offer = Offer ?? 0;
      this.#lent = false;
      await pc.setLocalDescription();
      this.#describe();
    } else if (Type === "Ice Ask") {
      if (this.#lent) this.#lend();
      else this.#asked = true;
    } else if (Turn === this.#turn) {
      if (signalingState === "have-local-offer") this.#describe(); // it was lost
    } else {
      this.#turn = Turn ?? 0;
      await this.#propose();
    }
  }

  /** Do what is due when it is our turn. */
  async #advance() {
    if (!this.#ours || this.#lent || this.connection.signalingState !== "stable") return;
    if (this.#asked) {
      this.#asked = false;
      this.#lent = true;
      this.#turn++;
      this.#lend();
    } else if (this.#due) await this.#propose();
  }

  #lend() {
    this.#signal({ Type: "Ice Turn", Turn: this.#turn });
  }

  async #propose() {
    this.#due = false;
    await this.connection.setLocalDescription();
    this.#offers++;
    this.#describe();
  }

  #describe() {
    const { localDescription } = this.connection;
    if (!localDescription) return;
    const offer = localDescription.type === "offer";
    const Type = offer ? "Ice Offer" : "Ice Answer";
    this.#signal({ Type, IcePacket: localDescription, Offer: offer ? this.#offers : this.#offer });
  }

  /** @param {RTCIceCandidateInit} candidate */
  #trickle(candidate) {
    // An old client looks for it in one place or the other.
    const flat = this.call ? {} : /** @type {object} */ (candidate);
    this.#signal({ Type: "Ice Candidate", IcePacket: candidate, ...flat });
  }

  /** @param {Signal} signal */
  #signal(signal) {
    const { signaller } = this.#videre;
    // `repair` makes up for what is not sent here.
    if (signaller.state === "joined") signaller.broadcast({ ...signal, Call: this.call }, { to: this.user });
  }

  #changed() {
    this.#videre.emit("connection", this);
    if (this.state === "failed") this.#videre.failed(this);
    else if (this.state === "disconnected") {
      setTimeout(() => this.state === "disconnected" && this.restart(), BREAK_MS);
    }
  }
}

/**
 * A call with everybody in a room.
 *
 * Callbacks, as ever: `onLocalStream`, `onRemoteStream`, `onVideoError`, `onAudioError`. Events, with
 * their detail: `call` the Peer, `stream` the Peer whose stream has come, `connection` the Peer whose
 * state has changed, `hangup` the Peer, `message` {user, data}, `error` an Error. What happens in the
 * room is told by `signaller`.
 */
export class Videre extends Emitter {
  /** @type {Map<string, Peer>} by their names */ peers = new Map();
  /** @type {MediaStream | null} may be set before `connect`, which else asks for one */
  localStream = null;
  /** @type {string | null} */ roomId = null;
  muted = false;
  videoMuted = false;
  /** @type {(stream: MediaStream) => void} */ onLocalStream = () => {};
  /** @type {(stream: MediaStream, user: string) => void} */ onRemoteStream = () => {};
  /** @type {(error: any) => void} */ onVideoError = () => {};
  /** @type {(error: any) => void} */ onAudioError = () => {};
  /** @type {MediaStreamTrack | null} */ #screen = null;
  /** @type {Map<string, Pace>} of the others' signals */ #paces = new Map();

  /** @param {VidereOptions} options */
  constructor(options) {
    super();
    this.signallerURL = options.signallerURL;
    this.localVideoElement = options.localVideoElement;
    this.remoteVideoElement = options.remoteVideoElement;
    this.constraints = options.constraints ?? { audio: true, video: true };
    this.configuration = options.configuration;
    // `Calls` tells the others that each may call us, and which calls we have already.
    const header = () => ({ Calls: [...this.peers.values()].flatMap(({ call }) => call ?? []) });
    const { signallerURL: url, userId: user, token } = options;
    this.signaller = new Signaller({ url, user, token, header })
      .on("joined", ({ user, header }) => this.#meet(user, header.Calls))
      .on("left", ({ user }) => this.#hangUp(user, true))
      .on("message", ({ user, payload }) => this.#hear(user, payload))
      .on("resumed", () => this.#repair())
      .on("rejoined", () => this.#repair())
      .on("closed", (error) => error && this.disconnect());
    options.initComplete?.();
  }

  get userId() {
    return this.signaller.user;
  }

  get isInitiator() {
    return this.signaller.isInitiator;
  }

  /** The call that `remoteVideoElement` shows. @returns {Peer | undefined} */
  get #shown() {
    return [...this.peers.values()].find(({ stream }) => stream.getTracks().length);
  }

  get remoteStream() {
    return this.#shown?.stream ?? null;
  }

  /**
   * Ask for camera and microphone, and enter a room.
   * @param {string} room @returns {Promise<Welcome | null>} null where `disconnect` came first
   */
  async connect(room) {
    if (this.roomId !== null) this.disconnect();
    this.roomId = room;
    const stream = this.localStream ?? (await this.#capture());
    if (this.roomId !== room) {
      if (stream !== this.localStream) stream?.getTracks().forEach((track) => track.stop());
      return null;
    }
    if (stream) {
      this.localStream = stream;
      this.#mute();
      if (this.localVideoElement) {
        this.localVideoElement.muted = true; // nobody wants to hear themselves
        this.localVideoElement.srcObject = stream;
      }
      this.onLocalStream(stream);
    }
    return this.signaller.join(room).catch((error) => {
      if (error.code === "left") return null;
      throw error;
    });
  }

  /** Leave the room, hang up, and let go of camera and microphone. */
  disconnect() {
    this.roomId = null;
    this.signaller.leave();
    this.#paces.clear();
    for (const user of this.peers.keys()) this.#hangUp(user);
    this.stopSharing();
    this.localStream?.getTracks().forEach((track) => track.stop());
    this.localStream = null;
    if (this.localVideoElement) this.localVideoElement.srcObject = null;
  }

  muteMic() {
    this.muted = true;
    this.#mute();
  }

  unmuteMic() {
    this.muted = false;
    this.#mute();
  }

  muteVideo() {
    this.videoMuted = true;
    this.#mute();
  }

  unmuteVideo() {
    this.videoMuted = false;
    this.#mute();
  }

  #mute() {
    for (const kind of KINDS) {
      const track = this.track(kind);
      if (track) track.enabled = !(kind === "audio" ? this.muted : this.videoMuted);
    }
  }

  /**
   * Send over the data channels, to all or to one. Where a channel is not open yet it waits.
   * @param {Data} data @param {{to?: string}} [options]
   */
  send(data, { to } = {}) {
    for (const peer of this.peers.values()) if (to === undefined || to === peer.user) peer.send(data);
  }

  /** Show the screen in place of the camera, until `stopSharing` or the browser's own button. */
  async shareScreen() {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
    this.#screen?.stop();
    const [track] = stream.getVideoTracks();
    this.#screen = track;
    track.onended = () => track === this.#screen && this.stopSharing();
    await this.#show();
    return stream;
  }

  stopSharing() {
    if (!this.#screen) return;
    this.#screen.stop();
    this.#screen = null;
    return this.#show();
  }

  async #show() {
    this.#mute();
    await Promise.all([...this.peers.values()].map((peer) => peer.replace("video", this.track("video"))));
  }

  /** What is sent. @param {Kind} kind @returns {MediaStreamTrack | null} */
  track(kind) {
    const ours = this.localStream?.getTracks().find((track) => track.kind === kind) ?? null;
    return kind === "video" ? (this.#screen ?? ours) : ours;
  }

  /** Ask for what there is: a call without a camera is better than none. */
  async #capture() {
    /** @type {any} */
    const constraints = this.constraints || {};
    const kinds = KINDS.filter((kind) => constraints[kind]);
    const stream = new MediaStream();
    /** @param {Kind[]} kinds */
    const ask = async (...kinds) => {
      const wanted = Object.fromEntries(kinds.map((kind) => [kind, constraints[kind]]));
      const found = await navigator.mediaDevices.getUserMedia(wanted);
      for (const track of found.getTracks()) stream.addTrack(track);
    };
    if (kinds.length > 1 && (await ask(...kinds).then(() => true, () => false))) return stream;
    for (const kind of kinds) {
      await ask(kind).catch((error) => {
        if (kind === "audio") this.onAudioError(error);
        else this.onVideoError(error);
      });
    }
    return stream.getTracks().length ? stream : null;
  }

  /**
   * Call who has entered after us. An old client, which sends no `Calls`, can have one call: the
   * initiator makes it.
   * @param {string} user @param {unknown} calls
   */
  #meet(user, calls) {
    const peer = this.peers.get(user);
    const listed = Array.isArray(calls);
    if (peer?.call && listed && calls.includes(peer.call)) return peer.repair(); // it was away
    this.#hangUp(user);
    if (listed || this.isInitiator) this.#call(user, listed ? random() : undefined, true);
  }

  /** @param {string} user @param {string | undefined} call @param {boolean} caller */
  #call(user, call, caller) {
    const peer = new Peer(this, user, call, caller);
    this.peers.set(user, peer);
    this.emit("call", peer);
    return peer;
  }

  /** @param {string} user @param {boolean} [gone] from the room */
  #hangUp(user, gone) {
    if (gone) this.#paces.delete(user);
    const peer = this.peers.get(user);
    if (!peer) return;
    this.peers.delete(user);
    peer.close();
    this.#display();
    this.emit("hangup", peer);
  }

  /** @param {string} user @param {any} payload */
  #hear(user, payload) {
    /** @type {Signal} */
    let signal = payload;
    try {
      if (typeof payload === "string") signal = JSON.parse(payload);
    } catch {
      return; // somebody's own words
    }
    if (!/^Ice (Offer|Answer|Candidate|Ask|Turn)$/.test(signal?.Type)) return;
    const { Type, Call } = signal;
    let cost = /Offer|Ask|Turn/.test(Type) ? 1 : 0;
    if (Type === "Ice Offer" && this.peers.get(user)?.call !== Call) cost = CALL_COST;
    const pace = this.#paces.get(user) ?? new Pace();
    this.#paces.set(user, pace);
    pace.pass(JSON.stringify(signal), cost, () => this.#take(user, signal));
  }

  /** @param {string} user @param {Signal} signal */
  #take(user, signal) {
    let peer = this.peers.get(user);
    if (signal.Type === "Ice Offer" && (!peer || peer.call !== signal.Call)) {
      if (!this.#accepts(user, signal)) return;
      this.#hangUp(user);
      peer = this.#call(user, signal.Call, false);
    }
    if (peer?.call === signal.Call) peer?.hear(signal);
  }

  /** Tell whether an offer makes a call. @param {string} user @param {Signal} signal */
  #accepts(user, { Call, Offer }) {
    const { users } = this.signaller;
    const their = users.indexOf(user);
    const our = users.indexOf(this.userId);
    if (their < 0) return false;
    // Who was there first makes a call, by its first offer. An old client's offer goes to all, and is
    // for who came next.
    return Call === undefined ? our === their + 1 || users.length < 3 : Offer === 1 && their < our;
  }

  #repair() {
    const { users } = this.signaller;
    for (const peer of [...this.peers.values()]) {
      if (users.includes(peer.user)) peer.repair();
      else if (peer.state === "failed") this.#hangUp(peer.user); // else it may come back
    }
  }

  /** @internal @param {Peer} peer */
  failed(peer) {
    const { state, users } = this.signaller;
    if (state === "joined" && !users.includes(peer.user)) this.#hangUp(peer.user);
    else peer.restart();
  }

  /** @internal @param {Peer} peer */
  received(peer) {
    this.#display();
    this.onRemoteStream(peer.stream, peer.user);
    this.emit("stream", peer);
  }

  #display() {
    const element = this.remoteVideoElement;
    const stream = this.remoteStream;
    if (element && element.srcObject !== stream) element.srcObject = stream;
  }
}

export default Videre;
