/** The original's README in seven steps: seven_steps.mjs URL ROOM TRANSPORT1 TRANSPORT2 */
import { candidate, Peer, run, sdp } from "./peer.mjs";

const CANDIDATES = 10;

async function trickle(peer, other) {
  for (let number = 1; number <= CANDIDATES; number++) {
    peer.send("broadcast", candidate(peer.user, number));
    if (number % 5 === 0) {
      peer.send("ping", "{}");
      await peer.hears("ping");
    }
  }
  for (let number = 1; number <= CANDIDATES; number++) await peer.hears("broadcast", other.user);
}

await run(async (url, room, transport1, transport2) => {
  const peer1 = await Peer.open(url, transport1, { name: "peer1", room });
  peer1.send("connect", "{}"); // 1
  await peer1.hears("connect");

  const peer2 = await Peer.open(url, transport2, { name: "peer2", room });
  peer2.send("connect", "{}"); // 2
  await peer2.hears("connect");
  await peer1.hears("connect", "peer2");

  const offer = { type: "offer", sdp: sdp("offer") };
  peer1.send("broadcast", { Type: "Ice Offer", IcePacket: offer }); // 3
  await peer2.hears("broadcast", "peer1");
  const answer = { type: "answer", sdp: sdp("answer") };
  peer2.send("broadcast", { Type: "Ice Answer", IcePacket: answer }); // 4
  await peer1.hears("broadcast", "peer2");

  await Promise.all([trickle(peer1, peer2), trickle(peer2, peer1)]); // 5 and 6

  await peer1.close(); // 7
  await peer2.hears("disconnect", "peer1");
  await peer2.hears("connect");
  peer2.send("ping", "{}"); // by its answer, everything has arrived
  await peer2.hears("ping");
  await peer2.close();
});
