/**
 * Our own part of the demo, with a fake page and a fake call: demo_alone.mjs DEMO_OWN
 *
 * Each scenario prints its results as a JSON line.
 */
import { pathToFileURL } from "node:url";

class FakeElement {
  children = [];
  dataset = {};
  classList = { toggle() {} };
  textContent = "";
  redrawn = 0;

  get tBodies() {
    return [new FakeElement()];
  }

  get all() {
    return [...this.children, ...this.children.flatMap((each) => each.all ?? [])];
  }

  append(...children) {
    for (const each of children) if (each instanceof FakeElement) each.parent = this;
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.redrawn++;
    this.children = [];
    this.append(...children);
  }

  querySelector(found) {
    return (this[found] ??= new FakeElement());
  }

  querySelectorAll() {
    return [];
  }

  remove() {
    this.parent.children = this.parent.children.filter((each) => each !== this);
  }

  async play() {}
  addEventListener() {}
  focus() {}
  setAttribute() {}
}
const elements = new Map();
globalThis.document = {
  createElement: () => new FakeElement(),
  createElementNS: () => new FakeElement(),
  getElementById: (id) => elements.get(id) ?? elements.set(id, new FakeElement()).get(id),
};
for (const kind of ["", "Button", "DList", "Div", "Input", "Select", "Table"]) globalThis[`HTML${kind}Element`] = FakeElement;
Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: {} } });

const module = pathToFileURL(process.argv[2]);
const { Own } = await import(module);
const { Devices } = await import(new URL("demo_devices.js", module));

class FakeCall extends EventTarget {
  signaller = new EventTarget();
  track = { kind: "video", readyState: "live" };
  localStream = { getTracks: () => [this.track], getAudioTracks: () => [] };

  on() {
    return this;
  }

  asked = [];

  useDevice(kind) {
    this.asked.push(kind);
    return Promise.reject(this.fails);
  }

  shareScreen() {
    const track = Object.assign(new EventTarget(), { readyState: "live" });
    return new Promise((resolve) => (this.share = (state) => {
      track.readyState = state;
      resolve({ getVideoTracks: () => [track] });
    }));
  }

  stopSharing() {
    return new Promise((resolve) => (this.stopped = resolve));
  }
}

/** Lets pending promises resolve. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Returns the page, a call, and our own part that follows it. */
async function begun() {
  elements.clear();
  const page = await import(new URL("demo_page.js", module));
  page.dismiss();
  const call = new FakeCall();
  const own = new Own({}, 100, () => {});
  own.follow(call);
  return { page: page.page, call, own };
}

const scenarios = {
  async whoseChoiceFails() {
    const found = {};
    for (const [how, error, readyState] of [
      ["denied", new DOMException("", "NotAllowedError"), "live"],
      ["denied, and the old one has ended", new DOMException("", "NotAllowedError"), "ended"],
      ["another one was chosen", Object.assign(new Error(), { code: "left" }), "live"],
    ]) {
      const { page, call, own } = await begun();
      call.signaller.dispatchEvent(new Event("state")); // the devices were requested
      call.fails = error;
      call.track.readyState = readyState;
      await own.choose("video", "another");
      own.show();
      const notices = page.notice.children.map((line) => line.children[0].children[0]);
      found[how] = [document.getElementById("blind").disabled, notices];
    }
    return found;
  },

  async whoLeavesWhileItAsksAgain() {
    const { page, call, own } = await begun();
    const denied = new DOMException("", "NotAllowedError");
    call.onAudioError(denied);
    call.onVideoError(denied);
    call.signaller.dispatchEvent(new Event("state")); // the devices were requested
    call.fails = Object.assign(new Error(), { code: "left" });
    const [line] = page.notice.children;
    line.children.find(({ children }) => children[0] === "Try again").onclick();
    own.stop();
    await settle();
    return call.asked;
  },

  async whatIsShared() {
    const call = new FakeCall();
    const own = new Own({}, 100, () => {});
    own.follow(call);
    const found = [];
    const press = () => void own.press("show");
    for (const step of [
      press,
      () => call.share("ended"), // with the browser's own button
      press,
      () => call.share("live"),
      press,
      press, // and again, before the others have the camera
      () => call.share("live"),
      () => call.stopped(),
    ]) {
      step();
      await settle();
      found.push(own.about("You").screen);
    }
    return found;
  },

  async whatTheListShows() {
    const list = document.getElementById("cameras");
    const devices = new Devices("", () => {});
    const show = () => devices.show([{ kind: "video", id: "a" }, { kind: "video", id: "b" }], null);
    const drawn = [];
    for (const step of [show, show, () => list.onchange(), show, show]) {
      step();
      drawn.push(list.redrawn);
    }
    return drawn;
  },
};

for (const [scenario, play] of Object.entries(scenarios)) {
  console.log(JSON.stringify({ scenario, found: await play() }));
}
