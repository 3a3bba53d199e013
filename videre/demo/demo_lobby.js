/**
 * The preview in the lobby: our picture, the microphone's level, and a choice of devices.
 *
 * It starts with a click, and stops before a call requests the devices itself.
 *
 * @typedef {"audio" | "video"} Kind
 */
import { element, make } from "./demo_parts.js";

const LEVELS_MS = 100; // between two looks at the microphone
const LOUD = 0.3; // the volume at which the meter is full
const KINDS = /** @type {Kind[]} */ (["audio", "video"]);

export class Preview {
  /** The chosen devices' ids. @type {Partial<Record<Kind, string>>} */
  chosen = {};
  #area = element("preview", HTMLElement);
  #open = element("preview-open", HTMLButtonElement);
  #video = element("preview-video", HTMLVideoElement);
  #meter = element("preview-level", HTMLMeterElement);
  #words = element("preview-words", HTMLElement);
  #lists = {
    video: element("preview-cameras", HTMLSelectElement),
    audio: element("preview-microphones", HTMLSelectElement),
  };
  /** @type {MediaStream | null} */ #stream = null;
  /** @type {AudioContext | null} */ #context = null;
  #listening = 0;
  #turn = 0; // what a late answer of the browser belongs to

  constructor() {
    this.#open.hidden = !navigator.mediaDevices;
    this.#open.onclick = () => (this.#area.hidden ? this.start() : this.stop());
    for (const kind of KINDS) {
      this.#lists[kind].onchange = () => {
        this.chosen[kind] = this.#lists[kind].value;
        this.start();
      };
    }
  }

  /** Request the devices, and show them; those that are not available are named. */
  async start() {
    this.stop();
    const turn = this.#turn;
    this.#show(true);
    this.#words.textContent = "Waiting for camera and microphone";
    const stream = new MediaStream();
    const missing = [];
    for (const kind of KINDS) {
      const track = await this.#request(kind);
      if (track) stream.addTrack(track);
      else missing.push(kind === "audio" ? "microphone" : "camera");
      if (turn !== this.#turn) return stopAll(stream);
    }
    this.#words.textContent = missing.length ? `Not available: ${missing.join(" and ")}.` : "";
    this.#stream = stream;
    this.#video.srcObject = stream;
    this.#listen(stream);
    await this.#list(stream);
  }

  stop() {
    this.#turn++;
    clearInterval(this.#listening);
    this.#context?.close();
    this.#context = null;
    if (this.#stream) stopAll(this.#stream);
    this.#stream = this.#video.srcObject = null;
    this.#meter.value = 0;
    this.#show(false);
  }

  /** @param {boolean} shown */
  #show(shown) {
    this.#area.hidden = !shown;
    this.#open.setAttribute("aria-expanded", String(shown));
    this.#open.textContent = shown ? "Stop the preview" : "Preview camera and microphone";
  }

  /** @param {Kind} kind @returns {Promise<MediaStreamTrack | null>} */
  async #request(kind) {
    const id = this.chosen[kind];
    // `exact`, because Chromium ignores an `ideal` microphone.
    const wanted = id ? { deviceId: { exact: id } } : true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ [kind]: wanted });
      return stream.getTracks()[0];
    } catch (error) {
      console.warn(error);
      delete this.chosen[kind]; // it may be unplugged: next time, any will do
      return null;
    }
  }

  /** @param {MediaStream} stream */
  #listen(stream) {
    if (!stream.getAudioTracks().length) return;
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#listening = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, each) => sum + each * each, 0) / samples.length;
      this.#meter.value = Math.min(1, Math.sqrt(power) / LOUD);
    }, LEVELS_MS);
  }

  /** @param {MediaStream} stream with the devices in use */
  async #list(stream) {
    const devices = await navigator.mediaDevices.enumerateDevices();
    for (const kind of KINDS) {
      const used = stream.getTracks().find((track) => track.kind === kind)?.getSettings().deviceId;
      const own = devices.filter((device) => device.kind === `${kind}input` && device.deviceId);
      const options = own.map(({ deviceId, label }) =>
        Object.assign(make("option", "", label || "Device"), { value: deviceId, selected: deviceId === used }),
      );
      this.#lists[kind].replaceChildren(...options);
      this.#lists[kind].disabled = own.length < 2;
    }
  }
}

/** @param {MediaStream} stream */
function stopAll(stream) {
  for (const track of stream.getTracks()) track.stop();
}
