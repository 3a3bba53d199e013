/**
 * The preview in the lobby: our picture, the microphone's level, and a choice of devices.
 *
 * It starts with a click, and stops before a call requests the devices itself.
 *
 * @typedef {import("./demo_devices.js").Kind} Kind
 */
import { Devices, KINDS } from "./demo_devices.js";
import { element } from "./demo_elements.js";
import { Meter } from "./demo_meter.js";

const LEVELS_MS = 100; // between two looks at the microphone
const LOUD = 0.3; // the volume at which the meter is full

export class Preview {
  /** The chosen devices' ids. @type {Partial<Record<Kind, string>>} */
  chosen = {};
  #area = element("preview", HTMLElement);
  #open = element("preview-open", HTMLButtonElement);
  #video = element("preview-video", HTMLVideoElement);
  #meter = element("preview-level", HTMLMeterElement);
  #words = element("preview-words", HTMLElement);
  #devices = new Devices("preview-", (kind, id) => {
    this.chosen[kind] = id;
    this.start();
  });
  /** @type {MediaStream | null} */ #stream = null;
  /** @type {Meter | undefined} */ #listening;
  #turn = 0; // counts starts and stops: an answer of the browser to an earlier one is useless

  constructor() {
    this.#open.hidden = !navigator.mediaDevices;
    this.#open.onclick = () => (this.#area.hidden ? this.start() : this.stop());
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
    if (stream.getAudioTracks().length) {
      this.#listening = new Meter(stream, LEVELS_MS, (level) => (this.#meter.value = Math.min(1, level / LOUD)));
    }
    this.#devices.show(await devices(), stream);
  }

  stop() {
    this.#turn++;
    this.#listening?.stop();
    this.#listening = undefined;
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
}

/** List the devices, as `Videre.devices` does in a call. */
async function devices() {
  const found = await navigator.mediaDevices.enumerateDevices();
  return KINDS.flatMap((kind) =>
    found
      .filter((device) => device.kind === `${kind}input` && device.deviceId)
      .map(({ deviceId: id, label, groupId: group }) => ({ kind, id, label, group })),
  );
}

/** @param {MediaStream} stream */
function stopAll(stream) {
  for (const track of stream.getTracks()) track.stop();
}
