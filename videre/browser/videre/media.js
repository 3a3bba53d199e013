/** Requests cameras and microphones. */

/** @import { Device, Kind } from "../videre.js" */

/** @param {MediaStream | null | undefined} stream */
export const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

/** @param {MediaStream | null | undefined} stream @param {Kind} kind @returns {MediaStreamTrack | null} */
export const trackOf = (stream, kind) => stream?.getTracks().find((track) => track.kind === kind) ?? null;

/** List the devices. Without a permission they have no labels. @returns {Promise<Device[]>} */
export async function devices() {
  const found = (await globalThis.navigator?.mediaDevices?.enumerateDevices?.()) ?? [];
  return found
    .filter(({ deviceId }) => deviceId)
    .map(({ kind, deviceId, label, groupId }) => ({
      kind: /** @type {Device["kind"]} */ (kind.replace(/input|audio(?=out)/, "")),
      id: deviceId,
      label,
      group: groupId,
    }));
}

/**
 * Request one track. @param {Kind} kind @param {any} wanted constraints
 * @returns {Promise<MediaStreamTrack>}
 */
export async function ask(kind, wanted) {
  const stream = await mediaDevices().getUserMedia({ [kind]: wanted });
  return /** @type {MediaStreamTrack} */ (trackOf(stream, kind));
}

/**
 * Request the available devices: a call without a camera is better than none.
 * @param {MediaStream} stream is filled with them if they are requested one after the other
 * @param {Partial<Record<Kind, any>>} constraints
 * @param {(kind: Kind) => any} otherwise constraints to use if a chosen device is gone
 * @param {() => boolean} wanted whether the stream is still wanted
 * @param {(kind: Kind, error: any) => void} failed @returns {Promise<MediaStream | null>}
 */
export async function capture(stream, constraints, otherwise, wanted, failed) {
  const kinds = /** @type {Kind[]} */ (Object.keys(constraints));
  if (kinds.length > 1) {
    try {
      return await mediaDevices().getUserMedia(constraints);
    } catch {
      // Request them one after the other.
    }
  }
  for (const kind of kinds) {
    if (!wanted()) break;
    await ask(kind, constraints[kind])
      .catch((error) => {
        if (error.name !== "OverconstrainedError") throw error;
        return ask(kind, otherwise(kind));
      })
      .then((track) => stream.addTrack(track), (error) => wanted() && failed(kind, error));
  }
  return stream.getTracks().length ? stream : null;
}

/** @returns {MediaDevices} */
function mediaDevices() {
  const { mediaDevices } = navigator;
  if (!mediaDevices) throw new Error("A camera needs https: or localhost");
  return mediaDevices;
}
