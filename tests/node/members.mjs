/** What the browser client offers, by class: members.mjs MODULE. One JSON line. */
import { pathToFileURL } from "node:url";

const client = await import(pathToFileURL(process.argv[2]));
const { Peer, Signaller, SignallerError, Videre } = client;

const own = (object) => Object.getOwnPropertyNames(object).filter((name) => name !== "constructor");
const members = (kind, instance) => [...own(kind.prototype), ...(instance ? own(instance) : [])];

console.log(
  JSON.stringify({
    exports: Object.keys(client),
    Signaller: members(Signaller, new Signaller({ url: "http://localhost/echo" })),
    Videre: members(Videre, new Videre({ signallerURL: "http://localhost/echo" })),
    Peer: members(Peer),
    SignallerError: ["code", "retry"].filter((name) => name in new SignallerError("code", "words")),
  }),
);
