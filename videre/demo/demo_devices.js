/**
 * Cameras and microphones: lists to choose from, and what is wrong with one.
 *
 * @typedef {import("./videre.js").Device} Device
 * @typedef {"audio" | "video"} Kind
 */
import { element, make } from "./demo_elements.js";

export const KINDS = /** @type {Kind[]} */ (["audio", "video"]);

/** The lists of devices to choose from. */
export class Devices {
  #lists;

  /** @param {string} prefix of the lists' ids @param {(kind: Kind, id: string) => void} chosen */
  constructor(prefix, chosen) {
    const list = (/** @type {string} */ id) => element(`${prefix}${id}`, HTMLSelectElement);
    this.#lists = { video: list("cameras"), audio: list("microphones") };
    for (const kind of KINDS) {
      const list = this.#lists[kind];
      list.onchange = () => {
        delete list.dataset.shown; // if the choice fails, show the device in use again
        chosen(kind, list.value);
      };
    }
  }

  /** @param {Device[]} devices @param {MediaStream | null} stream with the devices in use */
  show(devices, stream) {
    for (const kind of KINDS) {
      const used = stream?.getTracks().find((track) => track.kind === kind)?.getSettings().deviceId;
      const list = this.#lists[kind];
      const own = devices.filter((device) => device.kind === kind);
      const shown = JSON.stringify([own, used]);
      if (list.dataset.shown === shown) continue; // unchanged: do not disturb a choice in progress
      list.dataset.shown = shown;
      list.disabled = own.length < 2;
      const options = own.map(({ id, label }) => {
        const option = make("option", "", label || "Device");
        return Object.assign(option, { value: id, selected: id === used });
      });
      list.replaceChildren(...options);
    }
  }
}

/** @type {Record<string, (device: string) => string>} sentences by the error's name */
const TROUBLE = {
  NotAllowedError: (device) =>
    `This page may not use the ${device}. Allow it next to the address, and try again.`,
  NotFoundError: (device) => `No ${device} was found.`,
  NotReadableError: (device) => `The ${device} is not available: another program may be using it.`,
  ended: (device) => `The ${device} has stopped.`,
};

/** Say that a chosen device cannot be used, while the one before it still can. @param {Kind} kind */
export function keptWords(kind) {
  const device = kind === "audio" ? "microphone" : "camera";
  return `The ${device} you chose cannot be used. The previous one is still in use.`;
}

/** Return what is wrong with camera and microphone, and what to do. @param {Map<Kind, string>} problems */
export function deviceWords(problems) {
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
