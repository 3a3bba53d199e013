/** Long packets and every kind of character, both ways: texts.mjs URL ROOM TRANSPORT */
import { Peer, run } from "./peer.mjs";

const PAYLOADS = [
  "x".repeat(60_000),
  "視".repeat(20_000),
  "👩‍👩‍👧‍👦".repeat(2_400),
  "こんにちは 世界, 안녕, 你好, مرحبا, Ελλάδα, e\u0301, \u200d\ufeff\ufffd\uffff\u{10ffff}",
  "\u0000\u0001\b\t\n\v\f\r\u001b\u007f\u0080\u009f\u00ad\u2028\u2029</script>\"'\\/",
  { "ключ 🔑": ["値", null, true, -1.5e-7, {}, [], { "": "" }] },
  [],
  null,
  false,
  0,
  "",
];

/** JSON that no serialiser writes: parsing and serialising it again would change it. */
function untidy({ user, room }) {
  const names = `"RoomId": "${room}",\t"UserId": "${user}"`;
  const header = `{${names} , "More": {"b":1,"a":2}, "Event":"broadcast"}`;
  const payload = `[1.0, 1e2, -0, 123456789012345678901234567890, "\\u00e9\\/", {"a":1,"a":2} ]`;
  return ` { "Extra" : null,\r\n "Payload" : ${payload} ,"Header":${header} }\n`;
}

async function say(from, to) {
  from.sendText(untidy(from));
  await to.hears("broadcast", from.user);
  for (const payload of PAYLOADS) {
    from.send("broadcast", payload);
    await to.hears("broadcast", from.user);
  }
}

await run(async (url, room, transport) => {
  const peer1 = await Peer.open(url, transport, { name: "peer1", user: "ピア一 👋", room });
  peer1.send("connect", "{}");
  await peer1.hears("connect");
  const peer2 = await Peer.open(url, transport, { name: "peer2", user: "__proto__", room });
  peer2.send("connect", "{}");
  await peer2.hears("connect");
  await Promise.all([say(peer1, peer2), say(peer2, peer1)]);
  await Promise.all([peer1.close(), peer2.close()]);
});
