/**
 * One call of the demo: who is in it, what they say, and its state.
 *
 * @typedef {import("./demo_devices.js").Kind} Kind
 * @typedef {import("./videre.js").Peer} Peer
 * @typedef {import("./videre.js").Quality} Quality
 */
import { Own } from "./demo_own.js";
import { announce, chat, details, devices, notice, page, panels, state } from "./demo_page.js";
import { People } from "./demo_people.js";
import { arrange } from "./demo_tile.js";
import { Videre } from "./videre.js";

const MEASURE_MS = 2_000; // between two measurements of the connections
const LEVELS_MS = 200; // between two looks at the volumes
const UPDATE_MS = 16; // until an update: about a frame, which a hidden tab does not have
const MAX_TEXT = 2_000; // characters of a chat message
const MAX_BYTES = 16 * 1024; // of others' values: a character of a chat message may take six bytes
const TOLD = /** @type {const} */ (["state", "joined", "left", "role", "resumed", "rejoined", "error"]);

/** One call, from the click until it ends. */
export class Call {
  #people = new People();
  #own;
  #entered = false;
  #stopped = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #updating;
  #over;
  #measuring = setInterval(() => this.#measure(), MEASURE_MS);
  #resizing = new ResizeObserver(() => this.#arrange());

  /**
   * @param {string} room @param {string} name our own, or ""
   * @param {Partial<Record<Kind, string>>} chosen the devices to use, by id
   * @param {(error: Error & {code?: string | number}) => void} over called if it ends by itself, or cannot begin
   */
  constructor(room, name, chosen, over) {
    this.room = room;
    this.name = name;
    this.#over = over;
    this.#own = new Own(chosen, LEVELS_MS, () => this.#tell());
    const signaller = document.querySelector("meta[name=signaller]")?.getAttribute("content") ?? "";
    this.videre = new Videre({
      signallerURL: new URL(signaller, location.href).href,
      localVideoElement: this.#own.tile.video,
      constraints: this.#own.wanted,
      levels: LEVELS_MS,
      maxTransferBytes: MAX_BYTES,
    });
    this.#own.follow(this.videre);
    this.videre
      .on("level", ({ user, level }) => {
        const tile = this.#people.tile(user);
        if (tile) tile.level = level;
      })
      .on("call", (peer) => this.#began(peer))
      .on("stream", (peer) => this.#people.tile(peer.user)?.play(peer.stream, () => this.#silent()))
      .on("connection", (peer) => this.#changed(peer))
      .on("hangup", (peer) => this.#ended(peer))
      .on("message", ({ user, data }) => this.#hear(user, data))
      .on("error", (error) => console.warn(error));
    const { signaller: seat } = this.videre;
    seat.on("packet", (packet) => {
      details.packet(packet);
      this.update();
    });
    seat.on("closed", (error) => error && over(error));
    for (const type of TOLD) seat.on(type, () => this.update());
    page.tiles.replaceChildren(this.#own.tile.element);
    this.#resizing.observe(page.tiles);
  }

  /** Return the name to show for a user. @param {string} user */
  nameOf = (user) => (user === this.videre.userId ? "you" : this.#people.nameOf(user));

  async start() {
    this.#show();
    try {
      if (!(await this.videre.connect(this.room))) return; // we have left meanwhile
    } catch (error) {
      if (this.#stopped) return; // the event `closed` gave the reason
      console.warn(error);
      return this.#over(/** @type {Error} */ (error));
    }
    this.#entered = true;
    this.update();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#updating);
    clearInterval(this.#measuring);
    this.#resizing.disconnect();
    this.#own.stop();
    this.videre.disconnect();
    this.#people.clear();
  }

  /** Handle a button. @param {"mute" | "blind" | "show"} what */
  press(what) {
    return this.#own.press(what);
  }

  /** @param {Kind} kind @param {string} id the device's */
  choose(kind, id) {
    return this.#own.choose(kind, id);
  }

  /** @param {string} text */
  say(text) {
    this.videre.send(JSON.stringify({ type: "text", text }));
    chat.add("You", text, true);
  }

  /** Update everything shown: soon and once, however often others cause it, and not after `stop`. */
  update() {
    if (!this.#stopped) this.#updating ??= setTimeout(() => this.#show(), UPDATE_MS);
  }

  #show() {
    this.#updating = undefined;
    const { videre } = this;
    const { state: seat, users, initiator } = videre.signaller;
    const peers = [...videre.peers.values()];
    state(...this.#state(seat, peers));
    const alone = this.#entered && !peers.length;
    page.invitation.hidden = !alone;
    page.copyAgain.hidden = alone || !this.#entered;
    this.#arrange();
    this.#own.show();
    details.name(this.nameOf);
    details.tell({
      Initiator: initiator === null ? "nobody yet" : this.nameOf(initiator),
      Present: users.map(this.nameOf).join(", ") || "nobody",
      Signaller: seat,
      Room: `${this.room.slice(0, 6)}...`,
      "Your id": videre.userId,
    });
  }

  #arrange() {
    const others = this.#people.count;
    page.stage.classList.toggle("pair", others === 1);
    arrange(page.tiles, others === 1 ? 1 : others + 1);
  }

  /** @param {string} seat @param {Peer[]} peers @returns {[string, "" | "good" | "busy" | "bad"]} */
  #state(seat, peers) {
    const connected = peers.filter((peer) => peer.state === "connected").length;
    if (this.#own.asking) return ["Waiting for camera and microphone", "busy"];
    if (!this.#entered) {
      return [seat === "waiting" ? "Connecting: no answer from the server yet" : "Connecting", "busy"];
    }
    if (seat !== "joined") return [connected ? "Reconnecting; the call goes on" : "Reconnecting", "bad"];
    if (!peers.length) return ["Waiting for someone", ""];
    if (connected === peers.length) {
      return [connected > 1 ? `Connected with ${connected} others` : "Connected", "good"];
    }
    return this.#people.hasLost(peers) ? ["Reconnecting", "bad"] : ["Connecting", "busy"];
  }

  /** Tell the others, or one of them, how to show us. @param {string} [to] */
  #tell(to) {
    this.videre.send(JSON.stringify({ type: "about", ...this.#own.about(this.name) }), { to });
    this.update();
  }

  /** @param {Peer} peer */
  #began(peer) {
    this.#people.add(peer.user);
    this.#tell(peer.user);
    this.#changed(peer);
  }

  /** @param {Peer} peer */
  #changed(peer) {
    this.#people.connects(peer);
    this.update();
    this.#measure();
  }

  /** @param {Peer} peer */
  #ended({ user }) {
    const name = this.#people.remove(user);
    if (name) this.#note(`${name} has left`);
    this.update();
  }

  /** @param {string} words */
  #note(words) {
    if (this.#stopped) return; // we have left, not they
    chat.note(words);
    if (!panels.isOpen("chat")) announce(words); // otherwise the chat announces it
  }

  /** Handle a value from a data channel, which may be anything. @param {string} user @param {unknown} data */
  #hear(user, data) {
    const value = String(data);
    if (value.length > MAX_BYTES) return; // `maxTransferBytes` does not limit values that fit into one message
    let said;
    try {
      said = JSON.parse(value);
    } catch {
      return;
    }
    if (said?.type === "about") this.#learn(user, said);
    else if (said?.type === "text" && typeof said.text === "string") {
      const text = said.text.slice(0, MAX_TEXT);
      const open = panels.isOpen("chat");
      chat.add(this.nameOf(user), text, open);
      if (!open) announce(`${this.nameOf(user)} says: ${text}`);
    }
  }

  /** @param {string} user @param {any} about */
  #learn(user, about) {
    if (this.#people.learn(user, about)) this.#note(`${this.nameOf(user)} is here`);
    this.update();
  }

  /** Ask for a click, because the browser requires one before it plays sound. */
  #silent() {
    const hear = () => this.#people.play();
    notice("sound", "Your browser requires a click before it plays sound.", ["Turn sound on", hear]);
  }

  /** Measure each connection once, for its mark and for the diagnostics. */
  async #measure() {
    const peers = [...this.videre.peers.values()];
    const measured = await Promise.all(
      peers.map(async (peer) => /** @type {[Peer, Quality]} */ ([peer, await peer.quality()])),
    );
    this.#people.mark(measured);
    if (!panels.isOpen("details")) return;
    const found = await this.videre.devices();
    if (this.#stopped) return;
    devices.show(found, this.videre.localStream);
    details.measure(measured, this.nameOf);
  }

  /** Return the diagnostics as text, to send to somebody. */
  report() {
    return `${new Date().toISOString()}\n${navigator.userAgent}\n${details.report()}`;
  }
}
