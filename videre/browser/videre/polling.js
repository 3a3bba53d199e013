import { random } from "./random.js";

/** SockJS's xhr-polling with the face of a WebSocket, for where those are blocked. */
export class Polling {
  /** @type {any} */ onopen;
  /** @type {any} */ onmessage;
  /** @type {any} */ onclose;
  #url;
  #query;
  #aborter = new AbortController();
  /** @type {string[]} */ #texts = [];
  /** @type {Promise<void> | null} */ #sending = null;

  /** @param {string} url @param {string} query */
  constructor(url, query) {
    this.#url = `${url}/000/${random()}`;
    this.#query = query;
    this.#poll();
  }

  /** @param {string} text */
  send(text) {
    this.#texts.push(text);
    this.#sending ??= this.#flush();
  }

  async close() {
    await this.#sending;
    this.#aborter.abort();
  }

  /** @param {string} path @param {RequestInit} more */
  async #post(path, more) {
    // The cookie is for balancers that need one to find the server again.
    const options = { method: "POST", credentials: /** @type {const} */ ("include"), ...more };
    const answer = await fetch(this.#url + path + this.#query, options);
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.text();
  }

  async #poll() {
    let code = 1006;
    let reason = "";
    try {
      while (code === 1006) {
        const frame = await this.#post("/xhr", { signal: this.#aborter.signal });
        if (frame[0] === "o") this.onopen();
        else if (frame[0] === "a") JSON.parse(frame.slice(1)).forEach(this.#hear, this);
        else if (frame[0] === "c") [code, reason] = JSON.parse(frame.slice(1));
      }
    } catch {
      // What is wrong with a request a page is not told.
    }
    this.onclose({ code, reason });
  }

  /** @param {string} data */
  #hear(data) {
    this.onmessage({ data });
  }

  async #flush() {
    while (this.#texts.length) {
      const body = JSON.stringify(this.#texts.splice(0));
      // What a page says as it goes has to be less than 64 KiB: a character has up to four bytes.
      await this.#post("/xhr_send", { body, keepalive: body.length < 15_000 }).catch(() => {
        this.#texts = [];
        this.#aborter.abort();
      });
    }
    this.#sending = null;
  }
}
