/** The client without a browser's events: no_events.mjs CLIENT EventTarget|CustomEvent. One JSON line. */
import { pathToFileURL } from "node:url";

const gone = process.argv[3] === "EventTarget" ? ["EventTarget", "Event", "CustomEvent"] : ["CustomEvent"];
for (const name of gone) delete globalThis[name];
globalThis.WebSocket = class {
  close() {}
};
const thrown = [];
process.on("uncaughtException", ({ message }) => thrown.push(message));
const { Signaller } = await import(pathToFileURL(process.argv[2]));
const heard = [];
const signaller = new Signaller({ url: "http://localhost/echo" });
signaller.on("state", (state) => heard.push(state));
signaller.on("state", () => {
  if (heard.length < 3) throw new Error("a listener's own");
});
signaller.addEventListener("state", { handleEvent: ({ detail }) => heard.push(`again ${detail}`) });
signaller.addEventListener("state", ({ detail }) => heard.push(`once ${detail}`), { once: true });
const forgotten = () => heard.push("forgotten");
signaller.addEventListener("state", forgotten);
signaller.removeEventListener("state", forgotten);
let detail;
signaller.addEventListener("state", (event) => ({ detail } = event));
signaller.join("room").catch(() => {});
signaller.leave();
await new Promise((resolve) => setTimeout(resolve, 10));
console.log(JSON.stringify({ missing: !(gone[0] in globalThis), heard, thrown, detail }));
