'use strict';
// The fastest relay that people write on Node: bare `ws`, no validation, no identity, no limits, no log, no compression. A broadcast is
// parsed once to learn its event and room, and its bytes are forwarded as they came. At /echo/websocket one message is one packet; at
// /echo/<server>/<session>/websocket it is SockJS's array of one string, which is forwarded behind an `a`.

const { WebSocketServer } = require('ws');
const { createServer, listen, standing } = require('./serve');

const rooms = new Map(); // room id -> Set of sockets, in joining order
const TEXT = { binary: false };
const A = Buffer.from('a');

const framed = (text) => 'a' + JSON.stringify([text]);

function send(room, text) {
  let array;
  for (const socket of room) {
    if (socket.sockjs) socket.send((array ??= framed(text)));
    else socket.send(text);
  }
}

function leave(socket) {
  const { roomId, userId } = socket;
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
  socket.roomId = RoomId;
  socket.userId = UserId;
  packet.Payload = String(room.size === 1);
  send(room, JSON.stringify(packet));
}

function broadcast(socket, packet, data) {
  const room = rooms.get(packet.Header.RoomId);
  if (!room) return;
  // Measured rooms have one framing only: a message is forwarded as it came, an array behind an `a`.
  const message = socket.sockjs ? Buffer.concat([A, data]) : data;
  for (const member of room) if (member !== socket) member.send(message, TEXT);
}

function ping(socket, packet) {
  const users = [];
  for (const member of rooms.get(packet.Header.RoomId) || []) users.push(member.userId);
  packet.Payload = JSON.stringify(users);
  const text = JSON.stringify(packet);
  socket.send(socket.sockjs ? framed(text) : text);
}

const handlers = { connect, broadcast, ping, disconnect: leave };

function onMessage(data) {
  try {
    const packet = JSON.parse(this.sockjs ? JSON.parse(data)[0] : data);
    handlers[packet.Header.Event](this, packet, data);
  } catch (error) {
    this.close();
  }
}

function onClose() {
  leave(this);
}

for (let i = 0; i < standing; i++) {
  rooms.set(`standing-${i}`, new Set([{ send() {}, userId: 'nobody', roomId: `standing-${i}` }]));
}

const server = createServer();
new WebSocketServer({ server, perMessageDeflate: false }).on('connection', (socket, request) => {
  socket.sockjs = request.url !== '/echo/websocket';
  if (socket.sockjs) socket.send('o');
  socket.on('message', onMessage);
  socket.on('close', onClose);
  socket.on('error', onClose);
});
listen(server);
