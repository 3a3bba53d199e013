/** A call with everybody in a room. */

/** @import { Data, Device, Kind, Sent, SendOptions, Signal, VidereOptions, Welcome } from "../videre.js" */
import { Emitter } from "./emitter.js";
import { unwanted } from "./errors.js";
import { ask, capture, devices, stop, trackOf } from "./media.js";
import { ID, MEDIUM, ROOM, SEND, TRACK, VIDERE, check, take } from "./options.js";
import { Pace } from "./pace.js";
import { MEDIA, Peer } from "./peer.js";
import { random } from "./random.js";
import { Signaller } from "./signaller.js";
import { isSignal } from "./signals.js";
import { LIMIT, failure, parsed, valueOf } from "./transfers.js";

const CALL_COST = 5; // a new call counts as this many answers, because it also sends candidates

export class Videre extends Emitter {
  /** @type {HTMLMediaElement | undefined} */ localVideoElement;
  /** @type {HTMLMediaElement | undefined} */ remoteVideoElement;
  /** @type {any} */ constraints = { audio: true, video: true };
  /** @type {RTCConfiguration} */ configuration = {};
  maxTransferBytes = LIMIT;
  /** @type {Map<string, Peer>} by name */ peers = new Map();
  /** @type {MediaStream | null} if set before `connect`, no device is requested */
  localStream = null;
  /** @type {string | null} */ roomId = null;
  muted = false;
  videoMuted = false;
  /** @type {(stream: MediaStream) => void} */ onLocalStream = () => {};
  /** @type {(stream: MediaStream, user: string) => void} */ onRemoteStream = () => {};
  /** @type {(error: any) => void} */ onVideoError = () => {};
  /** @type {(error: any) => void} */ onAudioError = () => {};
  /** @type {MediaStreamTrack | null} */ #screen = null;
  /** @type {Map<string, Pace>} for the others' signals, by name */ #paces = new Map();
  /** @type {Map<Kind, MediaStreamTrack | null>} tracks that replace the devices' */ #replaced = new Map();
  /** @type {Map<Kind, string | undefined>} ids of chosen devices */ #chosen = new Map();
  /** @type {Map<Kind, object>} the latest choice of each kind */ #choosing = new Map();
  /** @type {WeakSet<MediaStreamTrack>} tracks that we requested */ #captured = new WeakSet();
  /** @type {{waits?: any}} another after each `connect` and `disconnect`; `waits` for devices */ #turn = {};
  /** @type {Promise<MediaStream | null> | null} a pending request for devices */ #capturing = null;
  /** @type {MediaStream | null} what it has got so far */ #partial = null;
  /** @type {any} */ #listening;

  /** @param {VidereOptions} options */
  constructor(options) {
    super();
    const { userId: user, token, levels, initComplete, ...rest } = check("Videre", options, VIDERE);
    Object.assign(this, rest);
    // `Calls` tells the others that they may call us, and which calls we already have.
    const header = () => ({ Calls: [...this.peers.values()].flatMap(({ call }) => call ?? []) });
    this.signaller = new Signaller({ url: rest.signallerURL, user, token, header })
      .on("joined", ({ user, header }) => this.#meet(user, header.Calls))
      .on("left", ({ user }) => this.#hangUp(user, true))
      .on("message", ({ user, payload }) => this.#hear(user, payload))
      .on("resumed", () => this.#repair())
      .on("rejoined", () => this.#repair())
      .on("state", (state) => state === "closed" && this.roomId !== null && this.disconnect());
    this.#levels = levels;
    initComplete?.();
  }

  #levels; // milliseconds between `level` events, 0 for none

  get userId() {
    return this.signaller.user;
  }

  get isInitiator() {
    return this.signaller.isInitiator;
  }

  /** What `remoteVideoElement` shows. */
  get remoteStream() {
    const streams = [...this.peers.values()].map(({ stream }) => stream);
    return streams.find((stream) => stream.getTracks().length) ?? null;
  }

  /**
   * Request camera and microphone, and enter a room.
   * @param {string} room @returns {Promise<Welcome | null>} null if `disconnect` is called first
   */
  async connect(room) {
    take("Videre.connect: room", ROOM, room);
    if (this.roomId !== null) this.disconnect();
    this.roomId = room;
    const turn = (this.#turn = { waits: !this.localStream });
    try {
      const stream = this.localStream ?? (await this.#capture());
      turn.waits = false;
      if (turn !== this.#turn) {
        // Another `connect` may wait for the same stream.
        if (stream !== this.localStream && !this.#turn.waits) stop(stream);
        return null;
      }
      if (stream) this.#show(this.#merged(stream));
      if (turn !== this.#turn) return null; // `onLocalStream` called `disconnect`
      if (this.#levels) this.#listening = setInterval(() => this.#listen(), this.#levels);
      return await this.signaller.join(room);
    } catch (error) {
      if (turn === this.#turn) this.disconnect();
      else if (/** @type {any} */ (error).code === "left") return null;
      throw error;
    }
  }

  /** Leave the room, hang up, and stop camera and microphone. */
  disconnect() {
    this.roomId = null;
    this.#turn = {};
    clearInterval(this.#listening);
    stop(this.localStream);
    stop(this.#partial);
    this.#screen?.stop();
    this.#screen = this.localStream = null;
    if (this.localVideoElement) this.localVideoElement.srcObject = null;
    this.signaller.leave(); // from here on, a listener may connect again
    for (const user of [...this.#paces.keys(), ...this.peers.keys()]) this.#hangUp(user, true);
  }

  /** Keep the devices that `useDevice` has got while `connect` still asked. @param {MediaStream} stream */
  #merged(stream) {
    const held = this.localStream;
    if (!held || held === stream) return stream;
    for (const track of stream.getTracks()) {
      if (trackOf(held, /** @type {Kind} */ (track.kind))) track.stop();
      else held.addTrack(track);
    }
    return held;
  }

  /** @param {MediaStream} stream */
  #show(stream) {
    this.localStream = stream;
    this.#mute();
    // Adding a listener twice is no fault: it is called once.
    for (const track of stream.getTracks()) track.addEventListener("ended", this.#ended);
    if (this.localVideoElement) {
      this.localVideoElement.muted = true; // nobody wants to hear themselves
      this.localVideoElement.srcObject = stream;
    }
    this.onLocalStream(stream);
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
    for (const kind of MEDIA) {
      const track = this.track(kind);
      if (track) track.enabled = !(kind === "audio" ? this.muted : this.videoMuted);
    }
  }

  /**
   * Send a value of up to 256 MiB to all or to some. It waits for channels that are not open yet.
   * @param {Data} data @param {SendOptions & {to?: string | string[]}} [options]
   * @returns {Promise<Sent>} resolves once each receiver's `Peer.send` has succeeded or failed
   */
  send(data, options = {}) {
    check("Videre.send", options, SEND);
    const value = valueOf(data);
    if (value.size > LIMIT) throw failure("too-large", "", `over ${LIMIT} bytes`);
    const users = [options.to ?? [...this.peers.keys()]].flat();
    const sending = users.map((user) => {
      const peer = this.peers.get(user);
      const sent = peer?.send(value, options) ?? Promise.reject(failure("no-such-user", user));
      return sent.then(() => null, (error) => ({ user, error }));
    });
    return Promise.all(sending).then((ends) => {
      const failed = ends.filter((end) => end !== null);
      for (const { error } of failed) this.emit("error", error);
      return { delivered: users.filter((_, index) => ends[index] === null), failed };
    });
  }

  /** Show the screen instead of the camera, until `stopSharing` or the browser's own button. */
  async shareScreen() {
    const turn = this.#turn;
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
    const [track] = stream.getVideoTracks();
    this.#require(turn === this.#turn, track);
    this.#screen?.stop();
    this.#screen = track;
    track.onended = () => track === this.#screen && this.stopSharing();
    await this.#sendAll("video");
    return stream;
  }

  stopSharing() {
    if (!this.#screen) return;
    this.#screen.stop();
    this.#screen = null;
    return this.#sendAll("video");
  }

  /** List the devices. @returns {Promise<Device[]>} */
  devices() {
    return devices();
  }

  /**
   * Switch to another camera or microphone (the default one without `id`), also for later calls.
   * @param {Kind} kind @param {string} [id] from `devices` @returns {Promise<MediaStreamTrack>}
   */
  async useDevice(kind, id) {
    take("Videre.useDevice: kind", MEDIUM, kind);
    if (id !== undefined) take("Videre.useDevice: id", ID, id);
    const turn = this.#turn;
    const choice = {};
    this.#choosing.set(kind, choice);
    const wanted = this.#constraints(kind, id);
    const track = await ask(kind, wanted).catch((error) => {
      const old = trackOf(this.localStream, kind);
      if (error.name !== "NotReadableError" || !old || turn !== this.#turn) throw error;
      old.stop(); // many phones can open only one camera at a time
      return ask(kind, wanted);
    });
    this.#require(turn === this.#turn && choice === this.#choosing.get(kind), track); // a later choice wins
    this.#chosen.set(kind, id);
    await this.#put(kind, track);
    return track;
  }

  /**
   * Send this track instead of the device's, in this call and in later ones, until it is replaced by
   * null. The caller stops it.
   * @param {Kind} kind @param {MediaStreamTrack | null} track
   */
  async replaceTrack(kind, track) {
    take("Videre.replaceTrack: kind", MEDIUM, kind);
    if (track !== null) take("Videre.replaceTrack: track", TRACK, track);
    this.#replaced.set(kind, track);
    await this.#sendAll(kind);
  }

  /** Refuse a track that is no longer wanted. @param {boolean} wanted @param {MediaStreamTrack} track */
  #require(wanted, track) {
    if (wanted) return;
    track.stop();
    throw unwanted();
  }

  /** Replace a track of the local stream. @param {Kind} kind @param {MediaStreamTrack} track */
  async #put(kind, track) {
    this.#captured.add(track);
    const stream = (this.localStream ??= new MediaStream());
    for (let old; (old = trackOf(stream, kind)); old.stop()) stream.removeTrack(old);
    stream.addTrack(track);
    const sent = this.#sendAll(kind); // before a callback can throw
    this.#show(stream);
    this.emit("device", { kind, track });
    await sent;
  }

  /** Handle the end of a track that ends by itself: unplugged, or no longer permitted. @param {Event} event */
  #ended = async ({ target }) => {
    const track = /** @type {MediaStreamTrack} */ (target);
    const kind = /** @type {Kind} */ (track.kind);
    if (!this.localStream?.getTracks().includes(track)) return;
    this.emit("ended", { kind, track });
    if (!(this.#captured.has(track) && this.localStream)) return; // the application's, or a listener has hung up
    this.#chosen.delete(kind);
    const turn = this.#turn;
    await this.useDevice(kind).catch((error) => {
      if (turn === this.#turn && error.code !== "left") this.#troubled(kind, error);
    });
  };

  /** @param {Kind} kind @param {any} error */
  #troubled(kind, error) {
    if (kind === "audio") this.onAudioError(error);
    else this.onVideoError(error);
  }

  /** Give every peer the current track of a kind: one that cannot take it does not matter to the others. @param {Kind} kind */
  async #sendAll(kind) {
    this.#mute();
    const failed = (/** @type {any} */ error) => this.emit("error", error);
    await Promise.all([...this.peers.values()].map((peer) => peer.replace(kind, this.track(kind)).catch(failed)));
  }

  /** The track to send. @param {Kind} kind @returns {MediaStreamTrack | null} */
  track(kind) {
    const ours = this.#replaced.get(kind) ?? trackOf(this.localStream, kind);
    return kind === "video" ? (this.#screen ?? ours) : ours;
  }

  /** @param {Kind} kind @param {string} [id] of the device */
  #constraints(kind, id) {
    const wanted = this.constraints?.[kind];
    if (!id) return wanted || true;
    return { ...wanted, deviceId: { exact: id } };
  }

  /** Request the devices, once: a second `connect` waits for the same request. */
  #capture() {
    return (this.#capturing ??= this.#ask().finally(() => (this.#capturing = null)));
  }

  /** @returns {Promise<MediaStream | null>} */
  async #ask() {
    const wanted = MEDIA.filter((kind) => this.constraints?.[kind]);
    stop(this.#partial);
    const partial = (this.#partial = new MediaStream());
    const stream = await capture(
      partial,
      Object.fromEntries(wanted.map((kind) => [kind, this.#constraints(kind, this.#chosen.get(kind))])),
      (kind) => this.#constraints(kind),
      () => this.#turn.waits,
      (kind, error) => this.#troubled(kind, error),
    );
    // `disconnect` has stopped some of them meanwhile, but another `connect` waits for them.
    if (this.#turn.waits && partial.getTracks()[0]?.readyState === "ended") return this.#ask();
    stream?.getTracks().forEach((track) => this.#captured.add(track));
    return stream;
  }

  #listen() {
    for (const peer of this.peers.values()) if (this.#heard.get(peer) !== null) this.#look(peer);
  }

  /** @param {Peer} peer */
  async #look(peer) {
    const { user } = peer;
    const before = this.#heard.get(peer);
    this.#heard.set(peer, null);
    const level = await peer.volume();
    this.#heard.set(peer, level);
    if (this.peers.get(user) === peer && (level || before)) this.emit("level", { user, level });
  }

  /** @type {WeakMap<Peer, number | null>} the last levels; null while the next is awaited */ #heard = new WeakMap();

  /**
   * Call a newcomer. An old client, which sends no `Calls`, can have one call: the initiator makes
   * it.
   * @param {string} user @param {unknown} calls
   */
  #meet(user, calls) {
    const peer = this.peers.get(user);
    const listed = Array.isArray(calls);
    if (peer?.call && listed && calls.includes(peer.call)) return peer.repair(); // it had lost its connection
    this.#hangUp(user);
    if (listed || this.isInitiator) this.#call(user, listed ? random() : undefined, true);
  }

  /** @param {string} user @param {string | undefined} call @param {boolean} caller */
  #call(user, call, caller) {
    if (!this.signaller.users.includes(user)) return; // a listener to `hangup` has called `disconnect`
    const peer = new Peer(this, user, call, caller);
    this.peers.set(user, peer);
    this.emit("call", peer);
    return peer;
  }

  /** @param {string} user @param {boolean} [gone] whether it left the room */
  #hangUp(user, gone) {
    if (gone) {
      this.#paces.get(user)?.stop();
      this.#paces.delete(user);
    }
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
    const signal = typeof payload === "string" ? parsed(payload) : payload;
    const ours = isSignal(signal);
    if (ours === null) return;
    const { Type, Call } = signal;
    if (!ours) return this.emit("ignored", { user, reason: `malformed ${Type}` });
    const offer = Type === "Ice Offer";
    const cost = offer && this.peers.get(user)?.call !== Call ? CALL_COST : Number(/Offer|Ask|Turn/.test(Type));
    const pace = this.#paces.get(user) ?? new Pace();
    this.#paces.set(user, pace);
    const passed = pace.pass(JSON.stringify(signal), cost, () => this.#take(user, signal));
    if (!passed) this.emit("ignored", { user, reason: "too many signals" });
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

  /** Tell whether an offer begins a call. @param {string} user @param {Signal} signal */
  #accepts(user, { Call, Offer }) {
    const { users } = this.signaller;
    const their = users.indexOf(user);
    const our = users.indexOf(this.userId);
    if (their < 0) return false;
    // The member that was in the room first makes the call, by its first offer. An old client's offer
    // goes to everybody, and is meant for the member that entered next after it.
    return Call === undefined ? our === their + 1 || users.length < 3 : Offer === 1 && their < our;
  }

  #repair() {
    const { users } = this.signaller;
    for (const peer of [...this.peers.values()]) {
      if (users.includes(peer.user)) peer.repair();
      else if (!/conn/.test(peer.state)) this.#hangUp(peer.user); // otherwise it may recover, or fails
    }
  }

  /** @internal @param {Peer} peer */
  failed(peer) {
    const { state, users } = this.signaller;
    if (state === "joined" && !users.includes(peer.user)) this.#hangUp(peer.user);
    else peer.repair(); // an offer without an answer would hold up the restart of ICE
  }

  /** @internal @param {Peer} peer */
  received(peer) {
    this.#display();
    this.emit("stream", peer);
    this.onRemoteStream(peer.stream, peer.user);
  }

  #display() {
    const { remoteVideoElement: element, remoteStream: stream } = this;
    if (element && element.srcObject !== stream) element.srcObject = stream;
  }
}
