'use strict';
// The same relay as ws_relay.js on Bun's own server (uWebSockets underneath): no validation, no identity, no limits, no log.

const rooms = new Map(); // room id -> Set of sockets, in joining order
const standing = Number(process.env.BENCH_ROOMS || 0);
const { BENCH_CERT, BENCH_KEY } = process.env;

const framed = (text) => 'a' + JSON.stringify([text]);

function send(room, text) {
  let array;
  for (const socket of room) socket.send(socket.data.sockjs ? (array ??= framed(text)) : text);
}

function leave(socket) {
  const { roomId, userId } = socket.data;
  const room = rooms.get(roomId);
  if (!room || !room.delete(socket)) return;
  if (room.size === 0) rooms.delete(roomId);
  else send(room, JSON.stringify({ Header: { Event: 'disconnect', UserId: userId, RoomId: roomId }, Payload: '' }));
}

function connect(socket, packet) {
  leave(socket);
  const { UserId, RoomId } = packet.Header;
  let room = rooms.get(RoomId);
  if (!room) rooms.set(RoomId, (room = new Set()));
  room.add(socket);
  Object.assign(socket.data, { roomId: RoomId, userId: UserId });
  packet.Payload = String(room.size === 1);
  send(room, JSON.stringify(packet));
}

function broadcast(socket, packet, text) {
  // Measured rooms have one framing only: a message is forwarded as it came, an array behind an `a`.
  const message = socket.data.sockjs ? 'a' + text : text;
  for (const member of rooms.get(packet.Header.RoomId) || []) if (member !== socket) member.send(message);
}

function ping(socket, packet) {
  const members = [...(rooms.get(packet.Header.RoomId) || [])];
  packet.Payload = JSON.stringify(members.map((member) => member.data.userId));
  const text = JSON.stringify(packet);
  socket.send(socket.data.sockjs ? framed(text) : text);
}

const handlers = { connect, broadcast, ping, disconnect: leave };

for (let i = 0; i < standing; i++) {
  rooms.set(`standing-${i}`, new Set([{ send() {}, data: { userId: 'nobody', roomId: `standing-${i}` } }]));
}

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  ...(BENCH_CERT && { tls: { cert: Bun.file(BENCH_CERT), key: Bun.file(BENCH_KEY) } }),
  fetch(request, server) {
    const sockjs = new URL(request.url).pathname !== '/echo/websocket';
    if (!server.upgrade(request, { data: { sockjs } })) return new Response('', { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    open(socket) {
      if (socket.data.sockjs) socket.send('o');
    },
    message(socket, text) {
      try {
        const packet = JSON.parse(socket.data.sockjs ? JSON.parse(text)[0] : text);
        handlers[packet.Header.Event](socket, packet, text);
      } catch {
        socket.close();
      }
    },
    close: leave,
  },
});
console.log(`Listening on ${BENCH_CERT ? 'https' : 'http'}://127.0.0.1:${server.port}/echo`);
process.on('SIGTERM', () => process.exit(0));
