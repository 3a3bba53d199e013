/**
 * One call of the demo: its people, their tiles, and its state.
 *
 * @typedef {import("./demo_parts.js").About} About
 * @typedef {import("./videre.js").Peer} Peer
 * @typedef {import("./videre.js").Quality} Quality
 * @typedef {import("./videre.js").SignallerError} SignallerError
 * @typedef {"audio" | "video"} Kind
 */
import { announce, button, chat, details, devices, dismiss, notice, page, panels, state } from "./demo_page.js";
import { Tile, arrange, relabel } from "./demo_parts.js";
import { Videre } from "./videre.js";

const MEASURE_MS = 2_000; // between two measurements of the connections
const LEVELS_MS = 200; // between two looks at the volumes
const MAX_TEXT = 2_000; // characters of a chat message
export const MAX_NAME = 40;
/** Small pictures, because each peer sends to every other. @type {Record<Kind, MediaTrackConstraints>} */
const WANTED = { audio: {}, video: { width: { ideal: 640 }, height: { ideal: 480 } } };
const KINDS = /** @type {Kind[]} */ (["audio", "video"]);
const TOLD = /** @type {const} */ (["state", "joined", "left", "role", "resumed", "rejoined", "error"]);

/** One call, from the click until it ends. */
export class Call {
  #tiles = /** @type {Map<string, Tile>} */ (new Map());
  #names = /** @type {Map<string, string>} */ (new Map());
  #own = new Tile(true);
  /** @type {Record<Kind, MediaTrackConstraints>} */ #wanted;
  #asking = true;
  #entered = false;
  #sharing = false;
  #over = false;
  #problems = /** @type {Map<Kind, string>} */ (new Map());
  #measuring = setInterval(() => this.#measure(), MEASURE_MS);
  #resizing = new ResizeObserver(() => this.#arrange());

  /**
   * @param {string} room @param {string} name our own, or ""
   * @param {Partial<Record<Kind, string>>} chosen the devices to use, by id
   * @param {(error: SignallerError) => void} over called if it ends by itself
   */
  constructor(room, name, chosen, over) {
    this.#wanted = choosing(chosen);
    this.room = room;
    this.name = name;
    const signaller = document.querySelector("meta[name=signaller]")?.getAttribute("content") ?? "";
    this.videre = new Videre({
      signallerURL: new URL(signaller, location.href).href,
      localVideoElement: this.#own.video,
      constraints: this.#wanted,
      levels: LEVELS_MS,
    });
    this.videre.onAudioError = (error) => this.#lacks("audio", error.name);
    this.videre.onVideoError = (error) => this.#lacks("video", error.name);
    this.videre
      .on("ended", ({ kind }) => this.#lacks(kind, "ended"))
      .on("device", ({ kind }) => this.#has(kind))
      .on("level", ({ user, level }) => {
        const tile = this.#tiles.get(user);
        if (tile) tile.level = level;
      })
      .on("call", (peer) => this.#began(peer))
      .on("stream", (peer) => this.#tiles.get(peer.user)?.play(peer.stream, () => this.#silent()))
      .on("connection", (peer) => this.#changed(peer))
      .on("hangup", (peer) => this.#ended(peer))
      .on("message", ({ user, data }) => this.#hear(user, data))
      .on("error", (error) => console.warn(error));
    const { signaller: seat } = this.videre;
    seat.on("packet", (packet) => details.packet(packet, this.nameOf));
    seat.on("closed", (error) => error && over(error));
    for (const type of TOLD) seat.on(type, () => this.update());
    page.tiles.replaceChildren(this.#own.element);
    this.#resizing.observe(page.tiles);
  }

  /** Return the name to show for a user. @param {string} user */
  nameOf = (user) => {
    if (user === this.videre.userId) return "you";
    return this.#names.get(user) || `Guest ${user.slice(0, 3).toUpperCase()}`;
  };

  async start() {
    this.update();
    const connected = this.videre.connect(this.room);
    // `connect` requests the devices first, then enters.
    this.videre.signaller.addEventListener("state", () => this.#asked(), { once: true });
    // The event `closed` gives the reason.
    if (!(await connected.catch(() => null))) return;
    this.#entered = true;
    this.update();
  }

  stop() {
    this.#over = true;
    clearInterval(this.#measuring);
    this.#resizing.disconnect();
    this.videre.disconnect();
    this.#tiles.clear();
  }

  /** Handle a button. @param {"mute" | "blind" | "show"} what */
  async press(what) {
    const { videre } = this;
    if (what === "mute") videre.muted ? videre.unmuteMic() : videre.muteMic();
    else if (what === "blind") videre.videoMuted ? videre.unmuteVideo() : videre.muteVideo();
    else if (this.#sharing) {
      await videre.stopSharing();
      this.#shares(false);
    } else await this.#share();
    this.#tell();
  }

  /** @param {string} text */
  say(text) {
    this.videre.send(JSON.stringify({ type: "text", text }));
    chat.add("You", text, true);
  }

  /** Update everything shown. */
  update() {
    const { videre } = this;
    const { state: seat, users, initiator } = videre.signaller;
    const peers = [...videre.peers.values()];
    state(...this.#state(seat, peers));
    const alone = this.#entered && !peers.length;
    page.invitation.hidden = !alone;
    page.copyAgain.hidden = alone || !this.#entered;
    this.#arrange();
    const about = this.#about();
    this.#own.show({ ...about, name: "You" });
    this.#label(about);
    details.tell({
      Initiator: initiator === null ? "nobody yet" : this.nameOf(initiator),
      Present: users.map(this.nameOf).join(", ") || "nobody",
      Signaller: seat,
      Room: `${this.room.slice(0, 6)}...`,
      "Your id": videre.userId,
    });
  }

  #arrange() {
    const others = this.#tiles.size;
    page.stage.classList.toggle("pair", others === 1);
    arrange(page.tiles, others === 1 ? 1 : others + 1);
  }

  /** @param {string} seat @param {Peer[]} peers @returns {[string, "" | "good" | "busy" | "bad"]} */
  #state(seat, peers) {
    const connected = peers.filter((peer) => peer.state === "connected").length;
    if (this.#asking) return ["Waiting for camera and microphone", "busy"];
    if (!this.#entered) {
      return [seat === "waiting" ? "Connecting: no answer from the server yet" : "Connecting", "busy"];
    }
    if (seat !== "joined") return [connected ? "Reconnecting; the call goes on" : "Reconnecting", "bad"];
    if (!peers.length) return ["Waiting for someone", ""];
    if (connected === peers.length) {
      return [connected > 1 ? `Connected with ${connected} others` : "Connected", "good"];
    }
    const broken = peers.some(
      (peer) => peer.state !== "connected" && this.#tiles.get(peer.user)?.wasConnected,
    );
    return broken ? ["Reconnecting", "bad"] : ["Connecting", "busy"];
  }

  /** @returns {About} */
  #about() {
    const { videre } = this;
    const tracks = videre.localStream?.getTracks() ?? [];
    const live = (/** @type {Kind} */ kind) =>
      tracks.some((track) => track.kind === kind && track.readyState === "live");
    const camera = live("video") && !videre.videoMuted;
    const microphone = live("audio") && !videre.muted;
    return { name: this.name, microphone, camera, screen: this.#sharing };
  }

  /** @param {About} about */
  #label({ microphone, camera }) {
    const { muted, videoMuted } = this.videre;
    const [mute, blind, show] = [button("mute"), button("blind"), button("show")];
    const [deaf, dark] = KINDS.map((kind) => this.#problems.has(kind));
    const [unmute, see] = [muted ? "Unmute" : "Mute", videoMuted ? "Camera on" : "Camera off"];
    relabel(mute, microphone ? "microphone" : "microphone-off", deaf ? "No mic" : unmute);
    relabel(blind, camera ? "camera" : "camera-off", dark ? "No camera" : see);
    relabel(show, "screen", this.#sharing ? "Stop sharing" : "Share screen");
    mute.classList.toggle("off", !microphone);
    blind.classList.toggle("off", !camera);
    show.classList.toggle("on", this.#sharing);
    mute.disabled = deaf;
    blind.disabled = dark;
  }

  /** Tell the others, or one of them, how to show us. @param {string} [to] */
  #tell(to) {
    this.videre.send(JSON.stringify({ type: "about", ...this.#about() }), { to });
    this.update();
  }

  /** @param {Peer} peer */
  #began(peer) {
    const tile = new Tile(false);
    this.#tiles.set(peer.user, tile);
    page.tiles.append(tile.element);
    tile.show({ name: this.nameOf(peer.user), microphone: true, camera: false, screen: false });
    this.#tell(peer.user);
    this.#changed(peer);
  }

  /** @param {Peer} peer */
  #changed(peer) {
    const tile = this.#tiles.get(peer.user);
    if (!tile) return;
    const { state: now } = peer;
    tile.wasConnected ||= now === "connected";
    if (now === "connected") tile.trouble = "";
    else if (tile.wasConnected) tile.trouble = "Reconnecting";
    else if (now !== "failed") tile.trouble = "Connecting";
    else tile.trouble = "No route found yet. The networks between you may need a TURN server.";
    this.update();
    this.#measure();
  }

  /** @param {Peer} peer */
  #ended({ user }) {
    this.#tiles.get(user)?.element.remove();
    this.#tiles.delete(user);
    if (this.#names.has(user)) this.#note(`${this.nameOf(user)} has left`);
    this.#names.delete(user);
    this.update();
  }

  /** @param {string} words */
  #note(words) {
    chat.note(words);
    if (!panels.isOpen("chat")) announce(words); // otherwise the chat announces it
  }

  /** Handle a value from a data channel, which may be anything. @param {string} user @param {unknown} data */
  #hear(user, data) {
    let said;
    try {
      said = JSON.parse(String(data));
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
    const [microphone, camera, screen] = [!!about.microphone, !!about.camera, !!about.screen];
    const known = this.#names.has(user);
    this.#names.set(user, typeof about.name === "string" ? about.name.trim().slice(0, MAX_NAME) : "");
    const name = this.nameOf(user);
    this.#tiles.get(user)?.show({ name, microphone, camera, screen });
    if (!known) this.#note(`${name} is here`);
    details.name(this.nameOf);
    this.update();
  }

  /** Ask for a click, because the browser requires one before it plays sound. */
  #silent() {
    const hear = () => this.#tiles.forEach((tile) => tile.play());
    notice("sound", "Your browser requires a click before it plays sound.", ["Turn sound on", hear]);
  }

  /** Say which devices are missing, now that they have been requested. */
  #asked() {
    this.#asking = false;
    this.#complain();
    this.#tell();
  }

  #complain() {
    if (!this.#problems.size) return dismiss("devices");
    const words = deviceWords(this.#problems);
    if (navigator.mediaDevices) notice("devices", words, ["Try again", () => this.#askAgain()]);
    else notice("devices", words);
  }

  /** Request the missing devices, and send them to everybody present. */
  async #askAgain() {
    for (const kind of [...this.#problems.keys()]) {
      await this.videre.useDevice(kind).catch((error) => !this.#over && this.#lacks(kind, error.name));
    }
  }

  /** @param {Kind} kind @param {string} why */
  #lacks(kind, why) {
    this.#problems.set(kind, why);
    delete this.#wanted[kind].deviceId; // it may be unplugged: next time, any will do
    if (this.#asking) return;
    this.#complain();
    this.#tell();
  }

  /** @param {Kind} kind whose device is now available */
  #has(kind) {
    this.#problems.delete(kind);
    if (!this.#sharing) this.#own.play(this.videre.localStream);
    this.#complain();
    this.#tell();
  }

  async #share() {
    try {
      const stream = await this.videre.shareScreen();
      stream.getVideoTracks()[0].addEventListener("ended", () => {
        this.#shares(false); // with the browser's own button
        this.#tell();
      });
      this.#shares(true);
      this.#own.play(stream);
    } catch (error) {
      const { name, message } = /** @type {Error} */ (error);
      if (name === "NotAllowedError") announce("Screen sharing cancelled");
      else notice("screen", `Cannot share the screen: ${message}`);
    }
  }

  /** @param {boolean} sharing */
  #shares(sharing) {
    this.#sharing = sharing;
    if (!sharing) this.#own.play(this.videre.localStream);
  }

  /** @param {Kind} kind @param {string} id the device's */
  choose(kind, id) {
    this.videre.useDevice(kind, id).catch((error) => !this.#over && this.#lacks(kind, error.name));
  }

  /** Measure each connection once, for its mark and for the diagnostics. */
  async #measure() {
    const peers = [...this.videre.peers.values()];
    const measured = await Promise.all(
      peers.map(async (peer) => /** @type {[Peer, Quality]} */ ([peer, await peer.quality()])),
    );
    for (const [peer, quality] of measured) this.#tiles.get(peer.user)?.mark(peer.state, quality);
    if (!panels.isOpen("details")) return;
    devices.show(await this.videre.devices(), this.videre.localStream);
    details.measure(measured, this.nameOf);
  }

  /** Return the diagnostics as text, to send to somebody. */
  report() {
    return `${new Date().toISOString()}\n${navigator.userAgent}\n${details.report()}`;
  }
}

/** Return what we want of the devices. @param {Partial<Record<Kind, string>>} chosen */
function choosing(chosen) {
  const wanted = KINDS.map((kind) => {
    const id = chosen[kind];
    return [kind, { ...WANTED[kind], ...(id && { deviceId: { exact: id } }) }];
  });
  return /** @type {Record<Kind, MediaTrackConstraints>} */ (Object.fromEntries(wanted));
}

/** @type {Record<string, (device: string) => string>} sentences by the error's name */
const TROUBLE = {
  NotAllowedError: (device) =>
    `This page may not use the ${device}. Allow it next to the address, and try again.`,
  NotFoundError: (device) => `No ${device} was found.`,
  NotReadableError: (device) => `The ${device} is not available: another program may be using it.`,
  ended: (device) => `The ${device} has stopped.`,
};

/** Return what is wrong with camera and microphone, and what to do. @param {Map<Kind, string>} problems */
function deviceWords(problems) {
  const { audio, video } = Object.fromEntries(problems);
  const tell = (/** @type {string} */ name, /** @type {string} */ device) =>
    TROUBLE[name]?.(device) ?? `The ${device} cannot be used (${name}).`;
  const sentences = [];
  if (!navigator.mediaDevices) {
    sentences.push("Browsers allow cameras only on https and localhost.");
  } else if (audio === video) sentences.push(tell(audio, "camera or microphone"));
  else {
    if (video) sentences.push(tell(video, "camera"));
    if (audio) sentences.push(tell(audio, "microphone"));
  }
  const missing = audio && video ? "see or hear" : video ? "see" : "hear";
  sentences.push(`You can continue without: you see and hear the others, but they cannot ${missing} you.`);
  return sentences.join(" ");
}
