/** Sessions that the server closes: closes.mjs URL ROOM TRANSPORT bad-packets|replaced */
import { Peer, run } from "./peer.mjs";

const scenarios = {
  async "bad-packets"(first) {
    for (let number = 1; number <= 10; number++) first.sendText(`{"Header": ${number}`);
    await first.closed;
  },
  async replaced(first, open) {
    const second = await open("second");
    second.send("connect", "{}");
    await second.hears("connect");
    await first.closed;
    second.send("ping", "{}");
    await second.hears("ping");
    await second.close();
  },
};

await run(async (url, room, transport, scenario) => {
  const open = (name) => Peer.open(url, transport, { name, user: "peer1", room });
  const first = await open("first");
  first.send("connect", "{}");
  await first.hears("connect");
  await scenarios[scenario](first, open);
});
