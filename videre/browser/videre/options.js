/**
 * The valid values of options. An invalid one throws a TypeError that names it, before anything is opened.
 * @typedef {[words: string, test: (value: any) => boolean]} Kind
 */

const CONTROLS = /[\0-\x1f\x7f-\x9f]/;
// A timer with a longer time is over at once.
const TIMER_MS = 2 ** 31 - 1;
/** @param {number} most @returns {Kind} */
const name = (most) => [
  `a string of 1 to ${most} characters without control characters`,
  (value) => typeof value === "string" && value !== "" && [...value].length <= most && !CONTROLS.test(value),
];
/** @param {string[]} types @returns {Kind} */
const a = (...types) => [`a ${types.join(" or a ")}`, (value) => types.includes(typeof value)];
/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
/** @param {number} least @returns {Kind} */
const time = (least) => [
  "a number of milliseconds",
  (value) => typeof value === "number" && value >= least && value <= TIMER_MS,
];
/** @param {string} what @param {string} property that all of these have @returns {Kind} */
const thing = (what, property) => [what, (value) => value?.[property] !== undefined];
/** @type {Kind} */
const url = ["an http: or ws: URL", (value) => locate(value) !== null];
const user = name(128);
const token = a("string", "function");
const callback = a("function");
const ms = time(1);
const element = thing("a media element", "srcObject");
/** @type {Kind} */
const to = ["a user's name or a list of names", (value) => [value].flat().every((each) => typeof each === "string")];

export const ROOM = name(256);
export const ID = a("string");
/** @type {Kind} */
export const MEDIUM = ['"audio" or "video"', (value) => ["audio", "video"].includes(value)];
export const TRACK = thing("a MediaStreamTrack or null", "readyState");

export const SIGNALLER = { url, user, token, header: callback, minDelay: ms, maxDelay: ms, heartbeat: ms };
/** @type {Record<string, Kind>} */
export const VIDERE = {
  signallerURL: url,
  localVideoElement: element,
  remoteVideoElement: element,
  initComplete: callback,
  userId: user,
  token,
  constraints: ["an object or false", (value) => value === false || isObject(value)],
  configuration: ["an object", isObject],
  levels: time(0),
  maxTransferBytes: ["a number of bytes", (value) => value >= 0 && Number.isFinite(value)],
};
export const BROADCAST = { to };
export const SEND = { to, onProgress: callback, signal: thing("an AbortSignal", "aborted") };

/**
 * Return the options that are given, and not as null. Throw a TypeError if one is invalid or unknown, or
 * if the URL is missing.
 * @param {string} whose @param {any} options @param {Record<string, Kind>} kinds @returns {any}
 */
export function check(whose, options, kinds) {
  if (!isObject(options)) throw new TypeError(`${whose} takes an object of options`);
  /** @type {Record<string, any>} */
  const given = { ...options };
  for (const name in given) {
    if (!(name in kinds)) throw new TypeError(`${whose}: no option ${name}; it takes ${Object.keys(kinds).join(", ")}`);
  }
  for (const name in kinds) {
    if (given[name] == null && kinds[name] !== url) delete given[name];
    else take(`${whose}: ${name}`, kinds[name], given[name]);
  }
  return given;
}

/** Throw a TypeError if a value is not of a kind. @param {string} what @param {Kind} kind @param {any} value */
export function take(what, [words, test], value) {
  if (!test(value)) throw new TypeError(`${what} takes ${words}`);
}

/**
 * Split a server's URL into the prefix and the query, which goes with every request.
 * @param {unknown} url @returns {{base: string, query: string} | null} null if it is not a URL
 */
export function locate(url) {
  if (typeof url !== "string" && !(url instanceof URL)) return null;
  try {
    const { href } = new URL(url, globalThis.location?.href);
    const [, rest, query] = /** @type {string[]} */ (/^(?:http|ws)(s?:[^?#]*)(.*)$/.exec(href));
    return { base: `http${rest}`.replace(/\/(websocket\/?)?$/, ""), query };
  } catch {
    return null; // not a URL, or of another scheme
  }
}
