import { random } from "./random.js";

/** SockJS's xhr-polling with a WebSocket's interface, for networks that block WebSockets. */
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

  /** @param {number} code after 1000, the last packets may still be sent */
  async close(code) {
    if (code === 1000) await this.#sending;
    this.#aborter.abort();
  }

  /** @param {string} path @param {RequestInit} [more] */
  async #post(path, more) {
    // Send cookies, because some load balancers route by them.
    const { signal } = this.#aborter;
    const request = { method: "POST", credentials: /** @type {const} */ ("include"), signal, ...more };
    const answer = await fetch(this.#url + path + this.#query, request);
    if (!answer.ok) throw answer; // nobody asks why
    return answer.text();
  }

  async #poll() {
    let code = 1006;
    let reason = "";
    try {
      while (code === 1006) {
        const frame = await this.#post("/xhr");
        const [items] = JSON.parse(`[${frame.slice(1)}]`); // throws if it is another server's page
        if (frame[0] === "o") this.onopen();
        else if (frame[0] === "a") for (const data of items) this.onmessage({ data });
        else if (frame[0] !== "h") [code, reason] = items; // a close frame; throws if there is none
      }
    } catch {
      // Browsers do not tell pages why a request failed.
    }
    this.onclose({ code, reason });
  }

  async #flush() {
    while (this.#texts.length) {
      const body = JSON.stringify(this.#texts.splice(0));
      // `keepalive` lets a request outlive its page, but only below 64 KiB; a character takes up to four bytes.
      await this.#post("/xhr_send", { body, keepalive: body.length < 15_000 }).catch(() => {
        this.#texts = [];
        this.#aborter.abort();
      });
    }
    this.#sending = null;
  }
}
