/** Measures a call by its connection's statistics. */

/** @import { Flow, Quality } from "../videre.js" */

/** @typedef {{at: number, bytes: number, lost: number, packets: number}} Counts */
/** @typedef {{sent: Counts, received: Counts}} Before the counts of the previous measurement */
/** @typedef {{at: number, energy: number, seconds: number, volume: number}} Heard until the last look at a stream */

/**
 * Measure a connection since the previous measurement.
 * @param {RTCPeerConnection} connection @param {Before | null} before
 * @returns {Promise<{quality: Quality, counts: Before}>}
 */
export async function measure(connection, before) {
  /** @type {Map<string, any>} */
  const reports = new Map();
  (await connection.getStats()).forEach((report, id) => reports.set(id, report));
  const all = [...reports.values()];
  const pair = pairOf(all, reports);
  const out = all.filter(({ type }) => type === "outbound-rtp");
  const told = all.filter(({ type }) => type === "remote-inbound-rtp");
  const into = all.filter(({ type }) => type === "inbound-rtp");
  const counts = {
    sent: count(out, "bytesSent", "packetsSent", told),
    received: count(into, "bytesReceived", "packetsReceived", into),
  };
  const seconds = pair?.currentRoundTripTime ?? told.find((each) => each.roundTripTime !== undefined)?.roundTripTime;
  const quality = {
    roundTrip: seconds === undefined ? null : seconds * 1000,
    path: pair && pathOf(reports.get(pair.localCandidateId), reports.get(pair.remoteCandidateId)),
    sent: flow(counts.sent, before?.sent, out, true),
    received: flow(counts.received, before?.received, into, false),
  };
  return { quality, counts };
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
  const before = heard.get(id) ?? { at: 0, energy: 0, seconds: 0, volume: 0 };
  if (before.at === at) return before.volume; // browsers keep statistics for a while
  const passed = seconds - before.seconds;
  const volume = passed > 0 ? Math.min(1, Math.sqrt(Math.max(0, energy - before.energy) / passed)) : 0;
  heard.set(id, { at, energy, seconds, volume });
  return volume;
}

/** @param {any[]} all @param {Map<string, any>} reports */
function pairOf(all, reports) {
  const transport = all.find(({ type, selectedCandidatePairId: id }) => type === "transport" && id);
  return (
    reports.get(transport?.selectedCandidatePairId) ??
    all.find(({ type, nominated, state }) => type === "candidate-pair" && nominated && state === "succeeded") ??
    null
  );
}

/** @param {any} local @param {any} remote */
function pathOf(local, remote) {
  const ends = { local: local?.candidateType ?? null, remote: remote?.candidateType ?? null };
  const relayed = ends.local === "relay" || ends.remote === "relay";
  return { ...ends, protocol: local?.protocol ?? null, relayed };
}

/** @param {any[]} streams @param {string} bytes @param {string} packets @param {any[]} losses @returns {Counts} */
function count(streams, bytes, packets, losses) {
  const sum = (/** @type {any[]} */ reports, /** @type {string} */ name) =>
    reports.reduce((total, report) => total + (report[name] ?? 0), 0);
  const at = streams.reduce((latest, { timestamp }) => Math.max(latest, timestamp), 0);
  return { at, bytes: sum(streams, bytes), packets: sum(streams, packets), lost: sum(losses, "packetsLost") };
}

/**
 * @param {Counts} now @param {Counts | undefined} before @param {any[]} streams @param {boolean} sent
 * @returns {Flow}
 */
function flow(now, before, streams, sent) {
  const video = streams.find(({ kind, frameHeight }) => kind === "video" && frameHeight) ?? {};
  const { frameWidth: width = null, frameHeight: height = null, framesPerSecond: frames = null } = video;
  const ms = before ? now.at - before.at : 0;
  const since = (/** @type {"bytes" | "packets" | "lost"} */ what) => Math.max(0, now[what] - (before?.[what] ?? 0));
  const packets = since("packets") + (sent ? 0 : since("lost"));
  return {
    bitRate: ms > 0 ? (since("bytes") * 8000) / ms : null,
    loss: ms > 0 && packets > 0 ? Math.min(1, since("lost") / packets) : null,
    width,
    height,
    frames,
  };
}
