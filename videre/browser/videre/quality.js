/** Measures a call by its connection's statistics. */

/** @import { Flow, Quality } from "../videre.js" */

/** @typedef {{at: number, bytes: number, lost: number, packets: number}} Counts */
/** @typedef {{Sent?: Counts, Received?: Counts}} Before the counts of the previous measurement */
/** @typedef {{at: number, energy: number, seconds: number, volume: number}} Heard until the last look at a stream */

/**
 * Measure a connection since the previous measurement.
 * @param {RTCPeerConnection} connection @param {Before} before it is updated
 * @returns {Promise<Quality>}
 */
export async function measure(connection, before) {
  const reports = await connection.getStats();
  const of = (/** @type {string} */ wanted) => [...reports.values()].filter(({ type }) => type === wanted);
  const told = of("remote-inbound-rtp");
  const into = of("inbound-rtp");
  const transport = of("transport").find((each) => each.selectedCandidatePairId);
  const pair =
    reports.get(transport?.selectedCandidatePairId) ??
    of("candidate-pair").find(({ nominated, state }) => nominated && state === "succeeded");
  const seconds = pair?.currentRoundTripTime ?? told.find((each) => each.roundTripTime)?.roundTripTime;
  return {
    roundTrip: seconds === undefined ? null : seconds * 1000,
    path: pair ? pathOf(reports.get(pair.localCandidateId), reports.get(pair.remoteCandidateId)) : null,
    sent: flow("Sent", of("outbound-rtp"), told, before),
    received: flow("Received", into, into, before),
  };
}

/**
 * Return the volume received since the last look, from 0 to 1 in steps of 1/1000. It is a mean, so
 * that no sound falls between two looks.
 * @param {RTCPeerConnection} connection @param {Map<string, Heard>} heard by stream; it is updated
 */
export async function volume(connection, heard) {
  const audio = connection.getReceivers().filter(({ track }) => track.kind === "audio");
  // A connection that has just been closed may have no statistics.
  const reports = await Promise.all(audio.map((receiver) => receiver.getStats().catch(() => new Map())));
  const volumes = reports.flatMap((report) => [...report.values()]).map((each) => volumeOf(each, heard));
  return Math.round(Math.max(0, ...volumes) * 1000) / 1000;
}

/** @param {any} report @param {Map<string, Heard>} heard @returns {number} */
function volumeOf({ type, id, timestamp: at, totalAudioEnergy: energy, totalSamplesDuration: seconds }, heard) {
  if (type !== "inbound-rtp" || energy === undefined) return 0;
  const before = /** @type {any} */ (heard.get(id));
  if (before?.at === at) return before.volume; // browsers keep statistics for a while
  const passed = seconds - (before?.seconds ?? 0);
  const volume = passed > 0 ? Math.min(1, Math.sqrt(Math.max(0, energy - (before?.energy ?? 0)) / passed)) : 0;
  heard.set(id, { at, energy, seconds, volume });
  return volume;
}

/** @param {any} local @param {any} remote */
function pathOf(local, remote) {
  const kinds = [local?.candidateType ?? null, remote?.candidateType ?? null];
  return { local: kinds[0], remote: kinds[1], protocol: local?.protocol ?? null, relayed: kinds.includes("relay") };
}

/**
 * @param {"Sent" | "Received"} way @param {any[]} streams @param {any[]} losses the reports that count them
 * @param {Before} before @returns {Flow}
 */
function flow(way, streams, losses, before) {
  const sum = (/** @type {any[]} */ reports, /** @type {string} */ name) =>
    reports.reduce((total, report) => total + (report[name] ?? 0), 0);
  const now = {
    at: Math.max(0, ...streams.map(({ timestamp }) => timestamp)),
    bytes: sum(streams, `bytes${way}`),
    packets: sum(streams, `packets${way}`),
    lost: sum(losses, "packetsLost"),
  };
  const last = before[way] ?? now;
  before[way] = now;
  const ms = now.at - last.at;
  const since = (/** @type {"bytes" | "packets" | "lost"} */ what) => Math.max(0, now[what] - last[what]);
  const packets = since("packets") + (way === "Sent" ? 0 : since("lost"));
  const video = streams.find((each) => each.frameHeight);
  return {
    bitRate: ms > 0 ? (since("bytes") * 8000) / ms : null,
    loss: packets > 0 ? Math.min(1, since("lost") / packets) : null,
    width: video?.frameWidth ?? null,
    height: video?.frameHeight ?? null,
    frames: video?.framesPerSecond ?? null,
  };
}
