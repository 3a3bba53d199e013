'use strict';
// The design of the original videre-server, on npm's sockjs and bunyan, with its log as it ships: info on stdout, debug in a file, and two
// debug records for each packet received. Packets are parsed, rooms are an object of arrays, each connect walks all rooms for the session
// and then all rooms for empty ones, and a message to a room is one JSON.stringify and a write to each member.
// Written from the protocol's description. Two deliberate differences: a broadcast goes to the others only, as in every server measured
// here (the original sent it to its sender too), and a ping about a room that does not exist is answered.

const bunyan = require('bunyan');
const sockjs = require('sockjs');
const { createServer, listen, standing } = require('./serve');

const log = bunyan.createLogger({
  name: 'videre',
  streams: [
    { level: 'info', stream: process.stdout },
    { level: 'debug', path: process.env.BENCH_LOG || '/dev/null' },
  ],
});
const rooms = {}; // room id -> [{ userId, session }], in joining order

function send(members, packet, except) {
  const text = JSON.stringify(packet);
  for (const { session } of members) if (session !== except) session.write(text);
}

function leave(session) {
  log.info('User left');
  for (const RoomId in rooms) {
    const index = rooms[RoomId].findIndex((member) => member.session === session);
    if (index < 0) continue;
    const [{ userId: UserId }] = rooms[RoomId].splice(index, 1);
    send(rooms[RoomId], { Header: { Event: 'disconnect', UserId, RoomId }, Payload: '' });
  }
  for (const roomId in rooms) {
    if (rooms[roomId].length > 0) continue;
    log.info(`Room ${roomId} is empty`);
    delete rooms[roomId];
  }
}

const handlers = {
  connect(session, packet) {
    const { UserId: userId, RoomId: roomId } = packet.Header;
    log.info(`User ${userId} connected`);
    leave(session);
    const isNew = !(roomId in rooms);
    log.info(isNew ? `New room ${roomId}` : `User ${userId} joins room ${roomId}`);
    (rooms[roomId] ||= []).push({ userId, session });
    packet.Payload = JSON.stringify(isNew);
    send(rooms[roomId], packet);
  },
  broadcast(session, packet) {
    send(rooms[packet.Header.RoomId] || [], packet, session);
  },
  ping(session, packet) {
    const room = rooms[packet.Header.RoomId] || [];
    packet.Payload = JSON.stringify(room.map(({ userId }) => userId));
    session.write(JSON.stringify(packet));
  },
  disconnect: leave,
};

for (let i = 0; i < standing; i++) {
  rooms[`standing-${i}`] = [{ userId: 'nobody', session: { write() {} } }];
}

const echo = sockjs.createServer();
echo.on('connection', (session) => {
  session.on('data', (text) => {
    log.debug('Packet:');
    log.debug(text);
    try {
      const packet = JSON.parse(text);
      handlers[packet.Header.Event](session, packet);
    } catch (error) {
      log.error(`Bad packet: ${error}`);
    }
  });
  session.on('close', () => leave(session));
});

const server = createServer();
echo.installHandlers(server, { prefix: '/echo' });
listen(server);
