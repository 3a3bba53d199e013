/** Events with a `detail`. React Native has no EventTarget, so this module brings its own. */

class Target {
  /** @type {Map<string, Map<any, boolean>>} */ #heard = new Map();

  /** @param {string} type @param {any} listener @param {any} [options] */
  addEventListener(type, listener, options) {
    const listeners = this.#heard.get(type) ?? new Map();
    this.#heard.set(type, listeners.set(listener, options?.once));
  }

  /** @param {string} type @param {any} listener */
  removeEventListener(type, listener) {
    this.#heard.get(type)?.delete(listener);
  }

  /** @param {any} event */
  dispatchEvent(event) {
    for (const [listener, once] of [...(this.#heard.get(event.type) ?? [])]) {
      if (once) this.removeEventListener(event.type, listener);
      try {
        if (typeof listener === "function") listener.call(this, event);
        else listener.handleEvent(event);
      } catch (error) {
        setTimeout(() => { throw error; }); // uncaught, as with EventTarget: the other listeners still run
      }
    }
    return true;
  }
}

export class Emitter extends /** @type {typeof EventTarget} */ (globalThis.EventTarget ?? Target) {
  /** @param {string} type @param {any} [detail] */
  emit(type, detail) {
    const event = globalThis.Event ? new Event(type) : { type };
    this.dispatchEvent(/** @type {any} */ (Object.assign(event, { detail })));
  }

  /**
   * Like addEventListener, but the listener gets only the detail.
   * @param {string} type @param {(detail: any) => void} listener @returns {this}
   */
  on(type, listener) {
    this.addEventListener(type, (event) => listener(/** @type {any} */ (event).detail));
    return this;
  }
}
