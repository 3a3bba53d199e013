/**
 * The valid values of options. An invalid one throws a TypeError that names it, before anything is opened.
 * @typedef {[words: string, test: (value: any) => boolean]} Kind
 */

const CONTROLS = /[\0-\x1f\x7f-\x9f]/;
/** @param {number} most @returns {Kind} */
const name = (most) => [
  `a string of 1 to ${most} characters without control characters`,
  (value) => typeof value === "string" && value !== "" && [...value].length <= most && !CONTROLS.test(value),
];
/** @param {string} type @returns {Kind} */
const a = (type) => [`a ${type}`, (value) => typeof value === type];
/** @type {(value: any) => boolean} */
const isObject = (value) => typeof value === "object" && !Array.isArray(value);
/** @type {Kind} */
const object = ["an object", isObject];
// A timer with a longer time is over at once.
const TIMER_MS = 2 ** 31 - 1;
/** @param {number} least @param {string} what @returns {Kind} */
const number = (least, what) => [what, (value) => Number.isFinite(value) && value >= least && value <= TIMER_MS];
/** @type {Kind} */
const element = ["a media element", (value) => isObject(value) && "srcObject" in value];
const ms = number(1, "a number of milliseconds");

/** @type {Record<string, Kind>} */
export const KINDS = {
  url: ["an http: or ws: URL", (value) => locate(value) !== null],
  user: name(128),
  room: name(256),
  token: ["a string or a function", (value) => typeof value === "string" || typeof value === "function"],
  header: a("function"),
  minDelay: ms,
  maxDelay: ms,
  heartbeat: ms,
  localVideoElement: element,
  remoteVideoElement: element,
  initComplete: a("function"),
  constraints: ["an object or false", (value) => value === false || isObject(value)],
  configuration: object,
  levels: number(0, "a number of milliseconds, 0 for none"),
  maxTransferBytes: ["a number of bytes", (value) => value >= 0 && Number.isFinite(value)],
  to: [
    "a user's name or a list of names",
    (value) => [value].flat().every((each) => typeof each === "string"),
  ],
  onProgress: a("function"),
  signal: ["an AbortSignal", (value) => isObject(value) && "aborted" in value],
  kind: ['"audio" or "video"', (value) => value === "audio" || value === "video"],
  deviceId: a("string"),
  track: ["a MediaStreamTrack or null", (value) => value === null || (isObject(value) && "readyState" in value)],
};
KINDS.signallerURL = KINDS.url;
KINDS.userId = KINDS.user;

/**
 * Throw a TypeError if an option is invalid, unknown, or missing.
 * @param {string} whose @param {any} options @param {string[]} known
 * @param {boolean} [needed] whether the first of `known` is required
 */
export function check(whose, options, known, needed = false) {
  if (!isObject(options) || options === null) throw new TypeError(`${whose} takes an object of options`);
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) {
      throw new TypeError(`${whose}: there is no option ${name}; it takes ${known.join(", ")}`);
    }
    if (value !== undefined && value !== null) take(`${whose}: ${name}`, name, value);
  }
  if (needed) take(`${whose}: ${known[0]}`, known[0], options[known[0]]);
}

/** Throw a TypeError if a value is not of a kind. @param {string} what @param {string} kind @param {any} value */
export function take(what, kind, value) {
  const [words, test] = KINDS[kind];
  if (!test(value)) throw new TypeError(`${what} takes ${words}`);
}

/**
 * Split a server's URL into the prefix and the query, which goes with every request.
 * @param {unknown} url @returns {{base: string, query: string} | null} null if it is not a URL
 */
export function locate(url) {
  let href;
  try {
    if (typeof url !== "string" && !(url instanceof URL)) return null;
    ({ href } = new URL(url, globalThis.location?.href));
  } catch {
    return null;
  }
  const found = /^(http|ws)(s?:[^?#]*)(.*)$/.exec(href);
  if (!found) return null;
  return { base: `http${found[2]}`.replace(/\/(websocket\/?)?$/, ""), query: found[3] };
}
