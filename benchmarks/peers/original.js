'use strict';
// The design of the original videre-server, on npm's sockjs: every packet is parsed and logged, rooms are an object of arrays, each connect
// walks all rooms for the session, and a message to a room is one JSON.stringify and a write to each member.
// Written from the protocol's description. A broadcast goes to the others only, as in every server measured here.

const fs = require('fs');
const sockjs = require('sockjs');
const { createServer, listen, standing } = require('./serve');

const rooms = {}; // room id -> [{ userId, session }], in joining order
const log = fs.createWriteStream(process.env.BENCH_LOG || '/dev/null', { flags: 'a' });

function debug(msg, packet) {
  const record = { name: 'videre', pid: process.pid, level: 20, packet, msg, time: new Date(), v: 0 };
  log.write(JSON.stringify(record) + '\n');
}

function send(members, packet, except) {
  const text = JSON.stringify(packet);
  for (const { session } of members) if (session !== except) session.write(text);
}

function remove(session) {
  for (const roomId in rooms) {
    const room = rooms[roomId];
    const index = room.findIndex((member) => member.session === session);
    if (index < 0) continue;
    const [{ userId }] = room.splice(index, 1);
    if (room.length === 0) delete rooms[roomId];
    else send(room, { Header: { Event: 'disconnect', UserId: userId, RoomId: roomId }, Payload: '' });
  }
}

const handlers = {
  connect(session, packet) {
    remove(session);
    const { UserId: userId, RoomId: roomId } = packet.Header;
    const room = rooms[roomId] || (rooms[roomId] = []);
    room.push({ userId, session });
    packet.Payload = JSON.stringify(room.length === 1);
    send(room, packet);
  },
  broadcast(session, packet) {
    send(rooms[packet.Header.RoomId] || [], packet, session);
  },
  ping(session, packet) {
    const room = rooms[packet.Header.RoomId] || [];
    packet.Payload = JSON.stringify(room.map(({ userId }) => userId));
    session.write(JSON.stringify(packet));
  },
  disconnect(session) {
    remove(session);
  },
};

for (let i = 0; i < standing; i++) {
  rooms[`standing-${i}`] = [{ userId: 'nobody', session: { write() {} } }];
}

const echo = sockjs.createServer({ log() {} });
echo.on('connection', (session) => {
  if (!session) return;
  session.on('data', (text) => {
    try {
      const packet = JSON.parse(text);
      debug('received', packet);
      handlers[packet.Header.Event](session, packet);
    } catch (error) {
      debug(error.message, text);
    }
  });
  session.on('close', () => remove(session));
});

const server = createServer();
echo.installHandlers(server, { prefix: '/echo' });
listen(server);
