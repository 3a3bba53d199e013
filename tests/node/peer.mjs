/** A peer on the real sockjs-client that prints what it sends, hears and loses, a JSON line each. */
import SockJS from "sockjs-client";

const PATIENCE = globalThis.process?.env.VIDERE_TEST_PATIENCE ?? 1; // a page has none
const CONNECT_MS = 15_000 * PATIENCE; // the client's own few hundred ms are too short on a loaded machine
const SCENARIO_MS = 55_000 * PATIENCE;
const started = performance.now();

function print(line) {
  console.log(JSON.stringify({ at: Math.round(performance.now() - started), ...line }));
}

export class Peer {
  #unread = [];
  #waiting = new Set();
  #opened;
  #lost = null;

  /** `name` is its name in the transcript; `transport` is one of SockJS's names, or "" for any. */
  constructor(url, transport, { name, user = name, room }) {
    Object.assign(this, { name, user, room });
    const transports = transport ? [transport] : undefined;
    this.sockjs = new SockJS(url, null, { transports, timeout: CONNECT_MS });
    this.closed = new Promise((resolve) => {
      this.sockjs.onclose = ({ code, reason, wasClean }) => {
        this.#print("closed", { code, reason, wasClean });
        this.#lost = `${name} was closed with ${code} ${reason}`;
        this.#look();
        resolve();
      };
    });
    this.#opened = new Promise((resolve, reject) => {
      this.sockjs.onopen = () => {
        this.#print("opened", { transport: this.sockjs.transport });
        resolve(this);
      };
      this.closed.then(() => reject(new Error(this.#lost)));
    });
    this.sockjs.onmessage = ({ data }) => {
      this.#print("heard", { text: data });
      this.#unread.push(JSON.parse(data));
      this.#look();
    };
  }

  static open(url, transport, who) {
    return new Peer(url, transport, who).#opened;
  }

  send(event, payload) {
    const header = { Event: event, UserId: this.user, RoomId: this.room };
    this.sendText(JSON.stringify({ Header: header, Payload: payload }));
  }

  sendText(text) {
    this.#print("sent", { text });
    this.sockjs.send(text);
  }

  /** Resolves with the first packet not yet taken that has this event and is from this user. */
  hears(event, user = this.user) {
    return new Promise((resolve, reject) => {
      this.#waiting.add({ event, user, resolve, reject });
      this.#look();
    });
  }

  close() {
    this.sockjs.close();
    return this.closed;
  }

  #look() {
    for (const wait of this.#waiting) {
      const fits = ({ Header }) => Header.Event === wait.event && Header.UserId === wait.user;
      const index = this.#unread.findIndex(fits);
      if (index < 0 && this.#lost === null) continue;
      this.#waiting.delete(wait);
      if (index >= 0) wait.resolve(this.#unread.splice(index, 1)[0]);
      else wait.reject(new Error(`${this.#lost} before ${wait.event} of ${wait.user}`));
    }
  }

  #print(event, more) {
    print({ peer: this.name, event, ...more });
  }
}

/** An SDP as long as a browser's; its content does not matter to the server. */
export function sdp(type, length = 6_000) {
  const lines = ["v=0", `o=- 4611731400430051336 2 IN IP4 127.0.0.1`, "s=-", "t=0 0", ""];
  let text = lines.join("\r\n");
  for (let i = 96; text.length < length; i++) {
    text += `a=rtpmap:${i} ${type}/90000\r\na=fmtp:${i} x="a\\b";apt=${i}\r\n`;
  }
  return text;
}

export function candidate(user, number) {
  const address = `192.0.2.${number} ${50_000 + number}`;
  return {
    Type: "Ice Candidate",
    IcePacket: {
      candidate: `candidate:${number} 1 udp 2122260223 ${address} typ host ufrag ${user}`,
      sdpMid: "0",
      sdpMLineIndex: 0,
    },
  };
}

/** Runs a scenario; the process fails if that throws or takes for ever. */
export async function run(scenario) {
  const fail = (error) => {
    console.error(String(error));
    process.exit(1);
  };
  const timer = setTimeout(fail, SCENARIO_MS, `Not done in ${SCENARIO_MS} ms`);
  await scenario(...process.argv.slice(2)).catch(fail);
  clearTimeout(timer);
}
