/**
 * Peer of the browser client, with a fake connection: peer_alone.mjs CLIENT
 *
 * Each scenario prints its results as a JSON line.
 */
import { File } from "node:buffer";
import { getEventListeners } from "node:events";
import { pathToFileURL } from "node:url";

const client = pathToFileURL(process.argv[2]);
const { Peer } = await import(client);
const { valueOf } = await import(new URL("videre/transfers.js", client));

class FakeChannel {
  readyState = "connecting";
  bufferedAmount = 0;
  sent = [];

  send(data) {
    this.sent.push(data);
  }

  open() {
    this.readyState = "open";
    this.onopen();
  }

  close() {
    this.readyState = "closed";
    this.onclose();
  }

  hears(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
}

globalThis.MediaStream = class {
  getTracks() {
    return [];
  }
};
globalThis.RTCPeerConnection = class {
  connectionState = "connected";
  signalingState = "stable";
  sctp = { maxMessageSize: 65_536 };

  addTransceiver() {}

  createDataChannel() {
    return new FakeChannel();
  }
};

/** Makes a call, and has its channels opened. */
function called({ open = true } = {}) {
  const videre = { track: () => null, signaller: {}, emit() {}, maxTransferBytes: 2 ** 20 };
  const peer = new Peer(videre, "bob", "call", true);
  peer.hear({ Type: "Ice Candidate", candidate: "", Data: 1 }); // it knows transfers
  if (open) for (const channel of [peer.channel, peer.data]) channel.open();
  return peer;
}

/** Starts to send a value; the result says how that ended, or that it has not. */
function sending(peer, data, signal) {
  const found = { end: "waits" };
  const sent = peer.send(valueOf(data), { signal });
  sent.then(() => (found.end = "sent"), ({ code }) => (found.end = code));
  return found;
}

/** Lets pending promises resolve. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

const scenarios = {
  async listenersOfASignal() {
    const control = new AbortController();
    const { signal } = control;
    const peer = called({ open: false });
    const ends = [];
    const look = async () => {
      await settle();
      ends.push([...values.map(({ end }) => end), getEventListeners(signal, "abort").length]);
    };
    const values = ["plain", { transfer: 1 }, { transfer: 2 }].map((data) => sending(peer, data, signal));
    await look();
    peer.channel.open();
    peer.data.open();
    await look();
    peer.data.hears({ Type: "Ack", Id: 1, Bytes: JSON.stringify({ transfer: 1 }).length });
    await look();
    control.abort();
    await look();
    return ends;
  },

  async aChannelThatIsClosed() {
    const found = {};
    for (const name of ["channel", "data"]) {
      const peer = called();
      const values = [sending(peer, { transfer: 1 })];
      peer.channel.bufferedAmount = 2 ** 21;
      values.push(sending(peer, "in the queue"));
      await settle();
      const before = values.map(({ end }) => end);
      peer[name].readyState = "closing";
      values.push(sending(peer, "while it closes"));
      peer[name].close();
      values.push(sending(peer, "afterwards"), sending(peer, { transfer: 2 }));
      await settle();
      found[name] = [before, values.map(({ end }) => end)];
    }
    return found;
  },

  async aSignalThatIsAborted() {
    const peer = called({ open: false });
    const control = new AbortController();
    const values = [sending(peer, "before", control.signal), sending(peer, "other")];
    control.abort();
    values.push(sending(peer, "after", control.signal), sending(peer, { transfer: 1 }, control.signal));
    await settle();
    const before = values.map(({ end }) => end);
    peer.channel.open();
    peer.data.open();
    await settle();
    return [before, peer.channel.sent, peer.data.sent];
  },

  async aNameThatIsCut() {
    const name = (text) => valueOf(new File([], text)).name;
    const names = [name("\u{1f600}".repeat(200)), name("x".repeat(300)), name("a \u{1f600}")];
    return [names.map((each) => [each.length, /\p{Surrogate}/u.test(each)]), valueOf(new Blob([])).name ?? null];
  },

  async anAnswerThatIsLost() {
    const told = [];
    const signaller = { state: "joined", broadcast: ({ Type, Offer }) => told.push([Type, Offer]) };
    const found = {};
    for (const call of ["call", undefined]) {
      const peer = new Peer({ track: () => null, signaller, emit() {}, maxTransferBytes: 1 }, "bob", call, true);
      const { connection } = peer;
      connection.setRemoteDescription = async () => (connection.signalingState = "have-remote-offer");
      connection.setLocalDescription = async () => {
        const type = connection.signalingState === "stable" ? "offer" : "answer";
        connection.localDescription = { type };
        connection.signalingState = type === "offer" ? "have-local-offer" : "stable";
      };
      signaller.state = "waiting"; // no connection to the server
      peer.hear({ Type: "Ice Offer", Offer: 7, IcePacket: {}, Call: call });
      await settle();
      connection.onnegotiationneeded(); // to restart ICE, for example
      await settle();
      signaller.state = "joined";
      peer.repair();
      found[call ?? "old"] = told.splice(0);
    }
    return found;
  },

  async anOfferThatFails() {
    const found = {};
    for (const how of ["given back", "given back, but lost"]) {
      const ends = {};
      const told = []; // on its way
      const said = [];
      for (const [user, other] of [["caller", "callee"], ["callee", "caller"]]) {
        const broadcast = (signal) => told.push([other, signal]);
        const emit = (type, { message }) => type === "error" && said.push(message);
        const videre = { track: () => null, signaller: { state: "joined", broadcast }, emit, maxTransferBytes: 1 };
        ends[user] = new Peer(videre, other, "call", user === "caller");
        const { connection } = ends[user];
        connection.setLocalDescription = async () => (connection.localDescription = { type: "offer" });
      }
      const deliver = async () => {
        const [to, signal] = told.shift();
        said.push(`${signal.Type} ${signal.Turn ?? ""}`.trim());
        ends[to].hear(signal);
        await settle();
      };
      ends.callee.connection.setLocalDescription = () => Promise.reject(new Error("no encoder"));
      ends.callee.connection.onnegotiationneeded();
      await deliver();
      await deliver();
      if (how === "given back") await deliver();
      else {
        told.shift();
        ends.caller.repair();
        while (told.length) await deliver();
      }
      ends.caller.connection.onnegotiationneeded();
      await settle();
      found[how] = [said, told.map(([, { Type }]) => Type)];
    }
    return found;
  },
};

for (const [scenario, play] of Object.entries(scenarios)) {
  console.log(JSON.stringify({ scenario, found: await play() }));
}
