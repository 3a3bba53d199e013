/** What the parts of the status page share: requests, elements and formats. */

export const SECOND = 1000;
const TOKEN = "videre-admin-token";
const TIMEOUT = 30 * SECOND; // longer than the server delays an address that has sent wrong tokens

const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
export const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
export const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const $ = (id) => document.getElementById(id);

/** The admin token, kept in this tab only; null: none is known. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  /** Keep a token. Return whether it can be one: a header takes no characters beyond Latin-1. */
  set: (text) => {
    try {
      new Headers({ Authorization: text });
    } catch {
      return false;
    }
    sessionStorage.setItem(TOKEN, text);
    return true;
  },
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** Send a request to the admin port, with the token. */
export function request(path, { query = {}, body, ...options } = {}) {
  const headers = new Headers();
  if (token.get() !== null) headers.set("Authorization", `Bearer ${token.get()}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const search = new URLSearchParams(query).toString();
  const url = search ? `${path}?${search}` : path;
  const signal = AbortSignal.timeout(TIMEOUT);
  return fetch(url, { ...options, body, headers, signal, cache: "no-store" });
}

/** Return why a request was refused. */
export async function reason(response) {
  const problem = await response.json().catch(() => ({})); // a proxy's answer may be a page
  return problem.detail ?? problem.title ?? `${response.status} ${response.statusText}`;
}

/** Make an element; `children` are elements or texts. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Fill a table; without rows, say `none`. */
export function fill(id, rows, none) {
  const body = document.querySelector(`#${id} tbody`);
  const columns = document.querySelectorAll(`#${id} th[scope=col]`).length;
  const cells = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  const empty = element("tr", {}, element("td", { className: "none", colSpan: columns }, none));
  body.replaceChildren(...(cells.length ? cells : [empty]));
}

export function count(value) {
  return number.format(value);
}

export function perSecond(value) {
  return `${number.format(value)}/s`;
}

export function bytesPerSecond(value) {
  const units = ["B/s", "KB/s", "MB/s", "GB/s"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${number.format(value)} ${units[unit]}`;
}

/** Write an upper bound in seconds; 0 means that nothing was measured. */
export function latency(seconds) {
  return seconds ? `${Number((seconds * SECOND).toPrecision(3))} ms` : "none";
}

export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

export function moment(iso) {
  const then = new Date(iso);
  const today = then.toDateString() === new Date().toDateString();
  return element("time", { dateTime: iso }, (today ? clock : date).format(then));
}
