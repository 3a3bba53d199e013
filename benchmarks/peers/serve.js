'use strict';
// Shared by the Node relays: the listening socket, its one line of output, and the end on SIGTERM.
// BENCH_CERT and BENCH_KEY: serve TLS. BENCH_ROOMS: how many rooms exist before the first client.

const fs = require('fs');
const http = require('http');
const https = require('https');

exports.standing = Number(process.env.BENCH_ROOMS || 0);

exports.createServer = function createServer() {
  const { BENCH_CERT, BENCH_KEY } = process.env;
  if (!BENCH_CERT) return http.createServer();
  return https.createServer({ cert: fs.readFileSync(BENCH_CERT), key: fs.readFileSync(BENCH_KEY) });
};

exports.listen = function listen(server) {
  server.listen(0, '127.0.0.1', () => {
    const scheme = process.env.BENCH_CERT ? 'https' : 'http';
    console.log(`Listening on ${scheme}://127.0.0.1:${server.address().port}/echo`);
  });
  process.on('SIGTERM', () => process.exit(0));
};
