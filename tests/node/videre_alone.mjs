/**
 * Videre of the browser client, with fake devices, connections and server: videre_alone.mjs CLIENT
 *
 * Each scenario prints its results as a JSON line.
 */
import { pathToFileURL } from "node:url";

const { Videre } = await import(pathToFileURL(process.argv[2]));

class FakeTrack extends EventTarget {
  readyState = "live";

  constructor(kind) {
    super();
    this.kind = kind;
    tracks.push(this);
  }

  stop() {
    this.readyState = "ended";
  }

  unplug() {
    this.stop();
    this.dispatchEvent(new Event("ended"));
  }
}

class FakeStream {
  #tracks;

  constructor(tracks = []) {
    this.#tracks = [...tracks];
  }

  getTracks() {
    return [...this.#tracks];
  }

  getVideoTracks() {
    return this.#tracks.filter(({ kind }) => kind === "video");
  }

  addTrack(track) {
    this.#tracks.push(track);
  }

  removeTrack(track) {
    this.#tracks = this.#tracks.filter((each) => each !== track);
  }
}

let socket;
let tracks = [];
let prompts = [];
let denials = [];
const ask = (wanted) => {
  const stream = () => new FakeStream(["audio", "video"].filter((kind) => wanted[kind]).map((kind) => new FakeTrack(kind)));
  return new Promise((resolve, reject) => {
    prompts.push(() => resolve(stream()));
    denials.push(() => reject(new DOMException("", "NotAllowedError")));
  });
};
globalThis.MediaStream = FakeStream;
globalThis.WebSocket = class {
  constructor() {
    socket = this;
  }

  sent = [];

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {}

  hears(Event, UserId, Payload, more) {
    this.onmessage({ data: JSON.stringify({ Header: { Event, UserId, RoomId: "room", ...more }, Payload }) });
  }

  welcome(...Users) {
    this.onopen();
    this.hears("connect", "me", "false");
    const seat = { Initiator: Users[0], Users, Resume: "secret", Grace: 20, IceServers: [], IceTtl: null };
    this.hears("welcome", "me", JSON.stringify({ ...seat, Resumed: false }));
  }
};
globalThis.RTCPeerConnection = class {
  connectionState = "new";
  signalingState = "have-local-offer";

  addTransceiver() {}
  addTrack() {}

  getTransceivers() {
    return [{ receiver: { track: { kind: "video" } }, direction: "sendrecv", sender: this.sender }];
  }

  createDataChannel() {
    return { readyState: "connecting", send() {} };
  }

  getConfiguration() {}
  setConfiguration() {}
  restartIce() {}

  close() {
    this.connectionState = this.signalingState = "closed";
  }
};
Object.defineProperty(globalThis, "navigator", {
  value: { mediaDevices: { getUserMedia: ask, getDisplayMedia: ask } },
});

/** Lets pending promises resolve. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** The user allows all that was asked for. */
async function allow() {
  for (const answer of prompts.splice(0)) answer();
  await settle();
}

/** The user allows all; then the server welcomes "me", after these others. */
async function enter(made, ...others) {
  const joined = made.connect("room");
  await allow();
  socket.welcome(...others, "me");
  await joined;
}

const videre = (options) => new Videre({ signallerURL: "http://host/echo", userId: "me", ...options });
const live = () => tracks.filter(({ readyState }) => readyState === "live").map(({ kind }) => kind);

const scenarios = {
  async whoHangsUpWhenADeviceEnds() {
    const made = videre();
    made.on("ended", () => made.disconnect());
    made.connect("room").catch(() => {});
    await allow();
    const before = live();
    tracks.find(({ kind }) => kind === "video").unplug();
    await settle();
    await allow();
    return [before, live(), made.localStream];
  },

  async whatIsAllowedAfterItHangsUp() {
    const found = {};
    for (const [name, ask] of Object.entries({
      useDevice: (made) => made.useDevice("video"),
      shareScreen: (made) => made.shareScreen(),
    })) {
      tracks = [];
      const made = videre(); // not in a call yet: a page may show its user first
      const end = ask(made).catch(({ code }) => code);
      made.disconnect();
      await allow();
      found[name] = [await end, tracks.length, live()];
    }
    return found;
  },

  async whatIsDeniedAfterItHangsUp() {
    const found = {};
    const deny = async () => {
      for (const answer of denials.splice(0)) answer();
      prompts = [];
      await settle();
    };
    for (const how of ["asked", "ended"]) {
      [prompts, denials, tracks] = [[], [], []];
      const errors = [];
      const made = videre({ constraints: { video: true } });
      made.onVideoError = ({ name }) => errors.push(name);
      made.connect("room").catch(() => {});
      if (how === "ended") {
        await allow();
        denials = [];
        tracks[0].unplug(); // so another device is requested
      }
      made.disconnect();
      await deny();
      found[how] = [...errors];
      made.connect("room").catch(() => {});
      await deny();
      found[how].push(errors.length);
      made.disconnect();
    }
    return found;
  },

  async whatItHadWhenItEnds() {
    const found = {};
    const answer = async (answers) => {
      [prompts, denials] = [[], []];
      answers[0]?.();
      await settle();
    };
    for (const how of ["it leaves", "it leaves and connects", "a callback throws"]) {
      [tracks, prompts, denials] = [[], [], []];
      const made = videre();
      made.onVideoError = () => {
        if (how === "a callback throws") throw new Error("its own");
      };
      const ends = [made.connect("room").catch(({ message }) => message)];
      await answer(denials); // both at once
      await answer(prompts); // the microphone
      if (how === "a callback throws") await answer(denials);
      else made.disconnect(); // the user is still asked for the camera
      if (how === "it leaves and connects") ends.push(made.connect("room"));
      found[how] = [live()];
      await answer(prompts); // the camera
      await answer(prompts); // both again, if another call waits for them
      found[how].push(live(), await ends[0]);
      if (ends[1]) socket.welcome("me");
      await ends[1];
      made.disconnect();
      found[how].push(live());
    }
    return found;
  },

  async whoHangsUpInAHangup() {
    const found = {};
    const offer = (Call) => ({ Type: "Ice Offer", Call, Offer: 1, IcePacket: { type: "offer", sdp: "" } });
    for (const [how, call] of Object.entries({
      calls: () => socket.hears("connect", "you", "false", { Calls: [] }),
      "is called": (name) => socket.hears("broadcast", "you", offer(name)),
    })) {
      const made = videre({ constraints: false });
      const told = [];
      for (const type of ["call", "hangup"]) made.on(type, () => told.push(type));
      made.on("hangup", () => made.disconnect());
      await enter(made, "you");
      call("first");
      call("second"); // it replaces the first
      found[how] = [told, [...made.peers.keys()]];
    }
    return found;
  },

  async whoDidNotComeBack() {
    const found = {};
    for (const state of ["new", "failed", "disconnected"]) {
      const made = videre({ constraints: false });
      await enter(made);
      socket.hears("connect", "you", "false", { Calls: [] });
      made.peers.get("you").connection.connectionState = state;
      const sent = made.send("Hello").then(({ failed }) => failed[0].error.code);
      socket.onclose({ code: 1006, reason: "" });
      made.signaller.wake();
      socket.welcome("me"); // the server was restarted, and has forgotten both
      found[state] = [...made.peers.keys()];
      made.disconnect();
      found[state].push(await sent);
    }
    return found;
  },

  async whoReconnectsInAListener() {
    const found = {};
    for (const [name, listen] of Object.entries({
      state: (made, again) => made.signaller.on("state", (state) => state === "closed" && again()),
      closed: (made, again) => made.signaller.on("closed", again),
      hangup: (made, again) => made.on("hangup", again),
    })) {
      for (const how of ["removed", "disconnect"]) {
        [tracks, prompts] = [[], []];
        const made = videre();
        made.connect("room").catch(() => {});
        await allow();
        socket.welcome("me");
        socket.hears("connect", "you", "false", { Calls: [] });
        let joined = null;
        listen(made, () => (joined ??= made.connect("another")));
        if (how === "removed") socket.onclose({ code: 4504, reason: "" });
        else made.disconnect();
        await allow();
        socket.welcome("me");
        await joined;
        found[`${name}, ${how}`] = [made.roomId, made.signaller.state, live(), made.localStream !== null];
        made.signaller.leave();
      }
    }
    return found;
  },

  async whatWaitsOfAMember() {
    const [set, clear] = [setTimeout, clearTimeout];
    const waiting = new Set();
    globalThis.setTimeout = (act, ms) => {
      const timer = set(() => (waiting.delete(timer), act()), ms);
      waiting.add(timer);
      return timer;
    };
    globalThis.clearTimeout = (timer) => (waiting.delete(timer), clear(timer));
    const found = {};
    for (const [how, end] of Object.entries({
      "it left": () => socket.hears("disconnect", "you", ""),
      "we left": (made) => made.disconnect(),
    })) {
      const made = videre({ constraints: false });
      await enter(made, "you");
      const before = waiting.size;
      const offer = (Call) => ({ Type: "Ice Offer", Call, Offer: 1, IcePacket: { type: "offer", sdp: "" } });
      for (const call of "abcd") socket.hears("broadcast", "you", offer(call));
      const held = waiting.size - before;
      end(made);
      found[how] = [held, waiting.size - before];
      made.disconnect();
    }
    [globalThis.setTimeout, globalThis.clearTimeout] = [set, clear];
    return found;
  },

  async callbacksThatThrow() {
    const made = videre({ constraints: { audio: true } });
    const told = [];
    for (const type of ["stream", "error"]) made.on(type, ({ message }) => told.push([type, message ?? ""]));
    await enter(made, "you");
    made.onRemoteStream = made.onLocalStream = () => {
      throw new Error("its own");
    };
    const IcePacket = { type: "offer", sdp: "" };
    socket.hears("broadcast", "you", { Type: "Ice Offer", Call: "call", Offer: 1, IcePacket });
    const peer = made.peers.get("you");
    peer.stream.addTrack(new FakeTrack("audio"));
    await settle();
    const given = [];
    peer.replace = async (kind, track) => void given.push([kind, track.readyState]);
    const used = made.useDevice("audio").catch(({ message }) => message);
    await allow();
    const found = [told, await used, given];
    made.disconnect();
    return found;
  },

  async whatAFailedCallSends() {
    const made = videre({ constraints: false });
    await enter(made);
    socket.hears("connect", "you", "false", { Calls: [] });
    const { connection } = made.peers.get("you");
    connection.localDescription = { type: "offer", sdp: "" };
    connection.connectionState = "failed";
    socket.sent = [];
    connection.onconnectionstatechange();
    made.disconnect();
    return socket.sent.map(({ Payload }) => Payload.Type ?? "");
  },

  async aScreenThatOneCannotGet() {
    const found = {};
    for (const how of ["fails", "leaves"]) {
      [tracks, prompts] = [[], []];
      const made = videre();
      const errors = [];
      made.on("error", ({ message }) => errors.push(message));
      made.connect("room").catch(() => {});
      await allow();
      socket.welcome("me");
      const given = [];
      for (const user of ["ann", "bob"]) {
        socket.hears("connect", user, "false", { Calls: [] });
        made.peers.get(user).connection.sender = { replaceTrack: async ({ kind }) => void given.push(user, kind) };
      }
      made.peers.get("ann").connection.sender.replaceTrack = () =>
        how === "fails" ? Promise.reject(new Error("stopped")) : new Promise(() => {});
      let end = "waits";
      const shared = made.shareScreen();
      shared.then(() => (end = "shared"), () => (end = "failed"));
      await allow();
      if (how === "leaves") socket.hears("disconnect", "ann", "");
      await settle();
      found[how] = [end, given, errors, live()];
      made.disconnect();
    }
    return found;
  },
};

for (const [scenario, play] of Object.entries(scenarios)) {
  [tracks, prompts] = [[], []];
  console.log(JSON.stringify({ scenario, found: await play() }));
}
