/** Measures a call by its connection's statistics. */

/** @import { Flow, Quality } from "../videre.js" */

/** @typedef {{at: number, bytes: number, lost: number, packets: number}} Counts */
/** @typedef {{sent: Counts, received: Counts}} Before the counts of the previous measurement */

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
