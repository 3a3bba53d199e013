/** The call with one other member. */

/** @import { Kind, Quality, SendOptions, Signal } from "../videre.js" */
/** @import { Videre } from "./call.js" */
/** @import { Before, Heard } from "./quality.js" */
/** @import { Sending, Value } from "./transfers.js" */
import { PLAIN, Transfers, VERSION, advance, failure } from "./transfers.js";
import { measure, volume } from "./quality.js";

const BREAK_MS = 4_000; // for a call to recover by itself, before ICE is restarted
const BUFFER = 2 ** 20; // bytes of plain messages that may wait in the channel
export const MEDIA = /** @type {Kind[]} */ (["audio", "video"]);

/**
 * The member that was in the room first makes the call, names it (`Call`), and makes the offers. The
 * other asks for a turn to make one ("Ice Ask", "Ice Turn"), so that two offers never collide and none
 * is rolled back: after a rollback, Chromium stops showing the video that it receives. Offers have
 * numbers, so that answers can name theirs; turns have numbers too. Every signal may be sent again. An
 * old client knows nothing of this: its calls have no name, and it never asks.
 */
export class Peer {
  /** Everything that is received. */
  stream = new MediaStream();
  /** @type {RTCDataChannel | null} for plain messages; old clients have none */ channel = null;
  /** @type {RTCDataChannel | null} for transfers */ data = null;
  #videre;
  #ours; // whether we make the offers
  #told = false; // whether the stream was announced
  #due = false; // whether we have to make an offer
  #asked = false; // whether the other asked for a turn
  #lent = false; // whether it is the other's turn
  #turn = 0; // number of the last turn
  #offers = 0; // number of our last offer
  #offer = 0; // number of the last offer that we accepted
  /** @type {RTCSessionDescription | null} to that offer */ #answer = null;
  /** @type {Promise<void>} */ #last = Promise.resolve();
  /** @type {Sending[]} */ #unsent = [];
  /** @type {Transfers | null} */ #transfers = null;
  /** @type {any} */ #end;
  /** A closed connection settles none of its promises. */ #closed = new Promise((resolve) => (this.#end = resolve));
  #version = 0; // of transfers, as both ends speak it
  /** @type {Before} */ #counts = {};
  /** @type {Map<string, Heard>} */ #heard = new Map();

  /**
   * @param {Videre} videre @param {string} user
   * @param {string | undefined} call its name; undefined with an old client
   * @param {boolean} caller whether we make the call
   */
  constructor(videre, user, call, caller) {
    this.user = user;
    this.call = call;
    this.#videre = videre;
    this.#ours = caller || !call;
    const pc = (this.connection = new RTCPeerConnection(this.#configuration));
    for (const kind of MEDIA) {
      const track = videre.track(kind);
      if (track) pc.addTrack(track, ...(videre.localStream ? [videre.localStream] : []));
      else if (caller) pc.addTransceiver(kind, { direction: "recvonly" });
    }
    if (call) this.#talk();
    pc.ontrack = ({ track }) => this.stream.addTrack(track);
    pc.onicecandidate = ({ candidate }) => candidate && this.#trickle(candidate.toJSON());
    pc.onnegotiationneeded = () => {
      this.#due = true;
      if (this.#ours) this.#queue(() => this.#advance());
      else this.#signal({ Type: "Ice Ask" });
    };
    pc.onconnectionstatechange = () => this.#changed();
  }

  #talk() {
    const open = (/** @type {string} */ label, /** @type {number} */ id) => {
      return Object.assign(this.connection.createDataChannel(label, { negotiated: true, id }), {
        binaryType: "arraybuffer",
        onopen: () => this.#flush(),
        onclose: () => this.#giveUp(),
      });
    };
    const tell = (/** @type {string} */ type, /** @type {any} */ detail) => this.#videre.emit(type, detail);
    const channel = (this.channel = open("videre", 0));
    channel.bufferedAmountLowThreshold = BUFFER / 2;
    channel.onbufferedamountlow = () => this.#flush();
    channel.onmessage = ({ data }) => tell("message", { user: this.user, data });
    this.data = open("videre.data", 1);
    this.#transfers = new Transfers(this.data, this.user, this.#videre.maxTransferBytes, tell);
  }

  /** @returns {RTCPeerConnectionState} */
  get state() {
    return this.connection.connectionState;
  }

  /**
   * Send a value. The promise resolves when the receiver has it; for a plain message, when the channel has it.
   * @param {Value} value @param {SendOptions} options @returns {Promise<void>}
   */
  async send(value, options) {
    const { channel, data } = this;
    if (!channel) throw failure("unsupported", this.user);
    // Values wait for both channels, so a closed one would hold up even those that do not need it.
    if (/clos/.test(channel.readyState + data?.readyState)) throw failure("gone", this.user);
    /** @type {any} */
    let abort;
    try {
      await new Promise((resolve, reject) => {
        /** @type {any} */
        const each = { value, options, resolve, reject };
        abort = () => {
          this.#unsent = this.#unsent.filter((other) => other !== each);
          this.#transfers?.fail(each, "cancelled");
        };
        options.signal?.addEventListener("abort", abort);
        if (options.signal?.aborted) return abort();
        this.#unsent.push(each);
        this.#flush();
      });
    } finally {
      options.signal?.removeEventListener("abort", abort); // the signal may outlive many values
    }
  }

  #flush() {
    const { channel, data } = this;
    if (channel?.readyState !== "open" || (this.#version && data?.readyState !== "open")) return;
    while (this.#unsent.length && channel.bufferedAmount <= BUFFER) {
      const each = /** @type {Sending} */ (this.#unsent.shift());
      const { kind, size } = each.value;
      if (!this.#version || (/text|bytes/.test(kind) && size <= PLAIN)) this.#sendPlain(each);
      else this.#transfers?.send(each, this.#most);
    }
  }

  /** The most bytes of a message that the other accepts. */
  get #most() {
    return this.connection.sctp?.maxMessageSize || PLAIN;
  }

  /** @param {Sending} each */
  #sendPlain(each) {
    const { size, plain } = each.value;
    if (size > this.#most) return this.#transfers?.fail(each, "too-large", `over ${this.#most} bytes`);
    try {
      this.channel?.send(plain);
    } catch (error) {
      return this.#transfers?.fail(each, "gone", String(error));
    }
    advance(each.options, { user: this.user, bytes: size, size });
    each.resolve();
  }

  #giveUp() {
    for (const each of this.#unsent.splice(0)) this.#transfers?.fail(each, "gone");
    this.#transfers?.close();
  }

  /** Measure the call since the previous measurement. @returns {Promise<Quality>} */
  quality() {
    return measure(this.connection, this.#counts);
  }

  /** Return the other's volume since the last call of this, from 0 to 1. */
  volume() {
    return volume(this.connection, this.#heard);
  }

  /** The other's current volume, from 0 to 1. */
  get level() {
    const sources = this.connection
      .getReceivers()
      .flatMap((receiver) => receiver.getSynchronizationSources?.() ?? []);
    return Math.max(0, ...sources.map(({ audioLevel }) => audioLevel ?? 0));
  }

  /**
   * Send this track in place of the last one of its kind.
   * @param {Kind} kind @param {MediaStreamTrack | null} track
   */
  async replace(kind, track) {
    const transceiver = this.connection.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
    if (!transceiver) return track && void this.connection.addTrack(track);
    if (track && !/send/.test(transceiver.direction)) transceiver.direction = "sendrecv";
    await Promise.race([transceiver.sender.replaceTrack(track), this.#closed]);
  }

  /** Send again the signals that may have been lost, above all while there was no connection to the server. */
  repair() {
    const { localDescription, signalingState } = this.connection;
    const offers = signalingState === "have-local-offer";
    // The other may still wait for our last answer: it was lost before we made the offer.
    if (offers && this.call) this.#describe(this.#answer);
    if (offers || localDescription?.type === "answer") this.#describe();
    if (this.#lent) this.#lend();
    if (this.#due && !this.#ours) this.#signal({ Type: "Ice Ask" });
    if (this.state !== "connected") this.restart();
  }

  /** Restart ICE, with the ICE servers valid now, to find another route. */
  restart() {
    const { connection: pc } = this;
    if (pc.signalingState === "closed") return;
    pc.setConfiguration({ ...pc.getConfiguration(), ...this.#configuration });
    pc.restartIce();
  }

  close() {
    this.#end();
    this.connection.onconnectionstatechange = null;
    this.connection.close();
    this.#giveUp();
  }

  /** Process a signal of the other. @param {Signal} signal */
  hear(signal) {
    if (signal.Data !== undefined) this.#version = Math.min(signal.Data, VERSION);
    this.#queue(async () => {
      await this.#take(signal);
      await this.#advance();
      if (!this.#told && this.stream.getTracks().length) {
        this.#told = true;
        this.#videre.received(this); // at last, because a callback may throw
      }
    });
  }

  get #configuration() {
    const { signaller, configuration } = this.#videre;
    return { iceServers: signaller.iceServers, ...configuration };
  }

  /** Run steps one after the other. @param {() => Promise<void>} step */
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
      // Old clients' candidates have no IcePacket. A candidate for an earlier ICE session is useless
      // and is ignored.
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
      this.#answer = pc.localDescription;
      this.#describe();
    } else if (Type === "Ice Ask") {
      if (this.#lent) this.#lend();
      else this.#asked = true;
    } else if (this.#ours) {
      this.#lent &&= Turn !== this.#turn; // the other may give it back
    } else if (Turn === this.#turn) {
      if (signalingState === "have-local-offer") this.#describe(); // our offer was lost
      else this.#lend(); // or we have none
    } else {
      this.#turn = Turn ?? 0;
      await this.#propose().catch((error) => {
        this.#lend(); // give it back, so that the other can make offers again
        throw error;
      });
    }
  }

  /** Lend the turn, or make an offer, if it is our turn and one is due. */
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

  #describe(description = this.connection.localDescription) {
    if (!description) return;
    const offer = description.type === "offer";
    this.#signal({
      Type: offer ? "Ice Offer" : "Ice Answer",
      IcePacket: description,
      Offer: offer ? this.#offers : this.#offer,
      Data: this.call ? VERSION : undefined,
    });
  }

  /** @param {RTCIceCandidateInit} candidate */
  #trickle(candidate) {
    // Old clients expect it in one place or the other.
    this.#signal({ Type: "Ice Candidate", IcePacket: candidate, ...(!this.call && candidate) });
  }

  /** @param {Signal} signal */
  #signal(signal) {
    const { signaller } = this.#videre;
    // `repair` sends later what is not sent now.
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
