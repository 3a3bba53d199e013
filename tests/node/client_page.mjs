/** Shared by the pages of the browser client's tests. */
import Videre, { Signaller, SignallerError, TransferError } from "/static/videre.js";

const PATIENCE_MS = 60_000; // a client may wait for 30 s between two attempts to reconnect
const HEARD = ["call", "stream", "hangup", "message", "error", "ignored", "ended", "device"];

/** Resolves with the first truthy result of `look`. */
async function until(look, ms = PATIENCE_MS) {
  const end = performance.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Collects events as [type, ...printable parts of the detail]. */
function record(target, ...types) {
  const heard = [];
  for (const type of types) target.on(type, (detail) => heard.push({ type, detail }));
  return heard;
}

/** Resolves when a video shows `more` frames than now; those of another stream are counted from nought. */
async function advances(video, more = 3) {
  let least = Infinity;
  await until(() => {
    const frames = video.getVideoPlaybackQuality().totalVideoFrames;
    least = Math.min(least, frames);
    return frames >= least + more;
  });
  return true;
}

function video() {
  const element = document.createElement("video");
  element.autoplay = true;
  document.body.append(element);
  return element;
}

/** A client made like an old page does, and its events. */
function client(options = {}) {
  const [localVideoElement, remoteVideoElement] = [video(), video()];
  const signallerURL = globalThis.SIGNALLER;
  const constraints = { audio: true, video: { width: 160, height: 120 } }; // quick to encode
  const elements = { localVideoElement, remoteVideoElement };
  const videre = new Videre({ signallerURL, ...elements, constraints, ...options });
  videre.heard = record(videre, ...HEARD);
  videre.told = record(
    videre.signaller,
    ...["joined", "left", "message", "role", "state", "resumed", "rejoined", "error", "closed"],
  );
  videre.remote = {}; // a video for each of the others
  videre.on("stream", ({ user, stream }) => {
    videre.remote[user] = Object.assign(video(), { srcObject: stream, muted: true });
  });
  return videre;
}

Object.assign(globalThis, { Videre, Signaller, SignallerError, TransferError, until, record, advances, client, video });
globalThis.ready = true;
