/** Two clients that behave like the old videre-client: old_client.mjs URL ROOM in-turn|together */
import { randomInt } from "node:crypto";
import SockJS from "sockjs-client";
import { candidate, run, sdp } from "./peer.mjs";

const PING_MS = 2_000;
const CANDIDATES = 3;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/** The old client's state machine; its WebRTC is only printed. */
class OldClient {
  isInitiator = false;
  started = false;
  pings = 0;
  #told;

  constructor(url, room, name) {
    this.name = name;
    this.room = room;
    this.user = Array.from({ length: 10 }, () => LETTERS[randomInt(LETTERS.length)]).join("");
    this.sockjs = new SockJS(url);
    this.sockjs.onopen = () => this.#open();
    this.sockjs.onmessage = ({ data }) => this.#message(JSON.parse(data));
    this.sockjs.onclose = ({ code }) => this.#close(code);
  }

  /** Resolves when `condition` holds, checked after each event of this client. */
  async until(condition) {
    while (!condition(this)) await new Promise((resolve) => (this.#told = resolve));
  }

  #tell(event, more = {}) {
    console.log(JSON.stringify({ peer: this.name, user: this.user, event, ...more }));
    this.#told?.();
  }

  #send(event, payload) {
    const header = { Event: event, UserId: this.user, RoomId: this.room };
    this.sockjs.send(JSON.stringify({ Header: header, Payload: payload }));
  }

  #open() {
    this.#send("connect", "{}");
    this.timer = setInterval(() => this.#send("ping", "{}"), PING_MS);
  }

  #close(code) {
    clearInterval(this.timer);
    this.ended = true;
    this.#tell("closed", { code });
  }

  #message({ Header, Payload }) {
    const { Event, UserId } = Header;
    if (UserId === this.user) {
      if (Event === "connect") this.#role(JSON.parse(Payload));
      else if (Event === "ping") this.#users(JSON.parse(Payload));
    } else if (Event === "connect") this.#call("connect");
    else if (Event === "broadcast") this.#signal(Payload);
    else if (Event === "disconnect") this.sockjs.close();
  }

  #role(isInitiator) {
    this.isInitiator = isInitiator;
    this.hasRole = true;
    this.#tell("role", { isInitiator });
  }

  #users(users) {
    this.pings++;
    if (users.length > 1) this.#call("ping");
    this.#tell("users", { users });
  }

  #call(cause) {
    if (!this.isInitiator || this.started) return;
    this.started = true;
    this.#tell("started", { cause });
    this.#signalSend("Ice Offer", { type: "offer", sdp: sdp("offer") });
    this.#candidates();
  }

  #signal({ Type, IcePacket }) {
    this.#tell("signal", { type: Type, ice: IcePacket });
    if (Type === "Ice Offer") {
      this.started = true;
      this.#signalSend("Ice Answer", { type: "answer", sdp: sdp("answer") });
      this.#candidates();
    } else if (Type === "Ice Candidate") {
      this.candidates = (this.candidates ?? 0) + 1;
      this.#tell("candidates");
    }
  }

  #signalSend(type, ice) {
    this.#send("broadcast", { Type: type, IcePacket: ice });
  }

  #candidates() {
    for (let number = 1; number <= CANDIDATES; number++) {
      this.#send("broadcast", candidate(this.user, number));
    }
  }
}

await run(async (url, room, how) => {
  const first = new OldClient(url, room, "first");
  if (how === "in-turn") await first.until((client) => client.hasRole);
  const second = new OldClient(url, room, "second");
  const clients = [first, second];
  for (const client of clients) await client.until(({ candidates }) => candidates === CANDIDATES);
  // A client that starts a call twice does so at a ping.
  for (const client of clients) await client.until(({ pings }) => pings >= 2);
  first.sockjs.close();
  for (const client of clients) await client.until(({ ended }) => ended);
});
