/**
 * Our own part in a call: camera, microphone and screen, and our tile.
 *
 * @typedef {import("./demo_devices.js").Kind} Kind
 * @typedef {import("./demo_tile.js").About} About
 * @typedef {import("./videre.js").Videre} Videre
 */
import { KINDS, deviceWords, keptWords } from "./demo_devices.js";
import { relabel } from "./demo_elements.js";
import { Meter } from "./demo_meter.js";
import { announce, button, dismiss, notice } from "./demo_page.js";
import { Tile } from "./demo_tile.js";

/** Small pictures, because each peer sends to every other. @type {Record<Kind, MediaTrackConstraints>} */
const WANTED = { audio: {}, video: { width: { ideal: 640 }, height: { ideal: 480 } } };

export class Own {
  tile = new Tile(true);
  /** What we request of the devices. @type {Record<Kind, MediaTrackConstraints>} */ wanted;
  #asking = true;
  #sharing = false;
  #over = false;
  #ms;
  #changed;
  #problems = /** @type {Map<Kind, string>} */ (new Map());
  /** @type {Videre | undefined} */ #videre;
  /** @type {Meter | undefined} */ #meter;
  /** The microphone that the meter listens to. @type {MediaStreamTrack | undefined} */ #metered;

  /**
   * @param {Partial<Record<Kind, string>>} chosen the devices to use, by id
   * @param {number} ms between two looks at our volume
   * @param {() => void} changed called when others should learn of a change
   */
  constructor(chosen, ms, changed) {
    this.wanted = choosing(chosen);
    this.#ms = ms;
    this.#changed = changed;
  }

  /** Follow the devices of a call. @param {Videre} videre */
  follow(videre) {
    this.#videre = videre;
    videre.onAudioError = (error) => this.#lacks("audio", error.name);
    videre.onVideoError = (error) => this.#lacks("video", error.name);
    videre.onLocalStream = () => this.#listen();
    videre.on("ended", ({ kind }) => this.#lacks(kind, "ended")).on("device", ({ kind }) => this.#has(kind));
    // `connect` requests the devices first, then enters.
    videre.signaller.addEventListener("state", () => this.#asked(), { once: true });
  }

  stop() {
    this.#over = true;
    this.#meter?.stop();
  }

  /** Whether the user is still asked for the devices. */
  get asking() {
    return this.#asking;
  }

  /** Return what the others should know of us. @param {string} name @returns {About} */
  about(name) {
    const { muted, videoMuted } = this.#videre ?? {};
    const [microphone, camera] = [this.#live("audio") && !muted, this.#live("video") && !videoMuted];
    return { name, microphone, camera, screen: this.#sharing };
  }

  /** @param {Kind} kind */
  #live(kind) {
    const tracks = this.#videre?.localStream?.getTracks() ?? [];
    return tracks.some((track) => track.kind === kind && track.readyState === "live");
  }

  /** Show us, and what the buttons do now. */
  show() {
    const about = this.about("You");
    this.tile.show(about);
    const { muted, videoMuted } = this.#videre ?? {};
    const [mute, blind, show] = [button("mute"), button("blind"), button("show")];
    const [deaf, dark] = KINDS.map((kind) => this.#problems.has(kind));
    const [unmute, see] = [muted ? "Unmute" : "Mute", videoMuted ? "Camera on" : "Camera off"];
    relabel(mute, about.microphone ? "microphone" : "microphone-off", deaf ? "No mic" : unmute);
    relabel(blind, about.camera ? "camera" : "camera-off", dark ? "No camera" : see);
    relabel(show, "screen", this.#sharing ? "Stop sharing" : "Share screen");
    mute.classList.toggle("off", !about.microphone);
    blind.classList.toggle("off", !about.camera);
    show.classList.toggle("on", this.#sharing);
    mute.disabled = deaf;
    blind.disabled = dark;
  }

  /** Handle a button. @param {"mute" | "blind" | "show"} what */
  async press(what) {
    const videre = this.#videre;
    if (!videre) return;
    if (what === "mute") videre.muted ? videre.unmuteMic() : videre.muteMic();
    else if (what === "blind") videre.videoMuted ? videre.unmuteVideo() : videre.muteVideo();
    else if (this.#sharing) {
      this.#shares(false); // not later: the user may share again before the others have the camera
      await videre.stopSharing();
    } else await this.#share(videre);
    this.#changed();
  }

  /** @param {Kind} kind @param {string} [id] the device's, without it any */
  async choose(kind, id) {
    if (this.#over) return; // it would turn the camera on
    await this.#videre?.useDevice(kind, id).catch((error) => this.#failed(kind, error));
  }

  /** @param {Kind} kind of a chosen device @param {Error & {code?: string}} error */
  #failed(kind, { name, code }) {
    if (this.#over || code === "left") return; // or another device was chosen meanwhile
    if (this.#live(kind)) notice("choice", keptWords(kind));
    else this.#lacks(kind, name);
  }

  /** Say which devices are missing, now that they have been requested. */
  #asked() {
    this.#asking = false;
    this.#complain();
    this.#changed();
  }

  #complain() {
    if (!this.#problems.size) return dismiss("devices");
    const words = deviceWords(this.#problems);
    if (navigator.mediaDevices) notice("devices", words, ["Try again", () => this.#askAgain()]);
    else notice("devices", words);
  }

  /** Request the missing devices, and send them to everybody present. */
  async #askAgain() {
    for (const kind of [...this.#problems.keys()]) await this.choose(kind);
  }

  /** @param {Kind} kind @param {string} why */
  #lacks(kind, why) {
    this.#problems.set(kind, why);
    delete this.wanted[kind].deviceId; // it may be unplugged: next time, any will do
    if (this.#asking || this.#over) return;
    this.#complain();
    this.#changed();
  }

  /** @param {Kind} kind whose device is now available */
  #has(kind) {
    this.#problems.delete(kind);
    dismiss("choice");
    this.#listen();
    if (!this.#sharing) this.tile.play(this.#videre?.localStream);
    this.#complain();
    this.#changed();
  }

  /** Meter our microphone; muted, it is silent. */
  #listen() {
    const [track] = this.#videre?.localStream?.getAudioTracks() ?? [];
    if (track === this.#metered) return;
    this.#meter?.stop();
    this.#metered = track;
    this.#meter = track && new Meter(new MediaStream([track]), this.#ms, (level) => (this.tile.level = level));
  }

  /** @param {Videre} videre */
  async #share(videre) {
    try {
      const stream = await videre.shareScreen();
      const [track] = stream.getVideoTracks();
      if (track.readyState === "ended") return; // with the browser's own button, already
      track.addEventListener("ended", () => {
        this.#shares(false);
        this.#changed();
      });
      this.#shares(true);
      this.tile.play(stream);
    } catch (error) {
      if (this.#over) return; // the user has left meanwhile
      const { name, message } = /** @type {Error} */ (error);
      if (name === "NotAllowedError") announce("Screen sharing cancelled");
      else notice("screen", `Cannot share the screen: ${message}`);
    }
  }

  /** @param {boolean} sharing */
  #shares(sharing) {
    this.#sharing = sharing;
    if (!sharing) this.tile.play(this.#videre?.localStream);
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
