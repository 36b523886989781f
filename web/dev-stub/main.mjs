// A stand-in for the server: `npm run stub`, then http://127.0.0.1:8080. It serves dist/ under a strict policy, the API, the
// login and a small broker from one port, and forgets everything at its end.
//   --data DIR      leaves the addresses in DIR/dev.json, as `roombridge dev` does
//   --web-port N    0 takes a free one
//   --delay-ms N    how long a message is on its way
//   --no-fences     no fence comes back
//   --secret TEXT   the login is not open

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startBroker } from './broker.mjs';
import { makeClassroom } from './classroom.mjs';

const { values: options } = parseArgs({
  options: {
    data: { type: 'string' },
    'web-port': { type: 'string', default: '8080' },
    'delay-ms': { type: 'string', default: '20' },
    'no-fences': { type: 'boolean', default: false },
    secret: { type: 'string' },
  },
});
const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const server = createServer((request, response) => {
  answer(request, response).catch((error) => reply(response, 500, { error: String(error) }));
});

const classroom = makeClassroom(
  {
    room: (roomId, body, properties) => broker.toSubscribers(`room/message/${roomId}`, body, properties),
    toClient: (clientId, body) => broker.toClient(clientId, `room/p2p/${clientId}`, body),
    presence: (body) => broker.toSubscribers('room/status', body),
    notice: (body) => broker.toSubscribers('room/system', body),
    isOnline: (clientId) => broker.isOnline(clientId),
  },
  { delayMs: Number(options['delay-ms']), fences: !options['no-fences'] },
);

const broker = startBroker(server, '/mqtt', {
  admit: ({ username, password }) => (username === 'Token|dev|dev' && role(password?.toString().replace(/^RW\|/u, '')) ? 0 : 0x86),
  came: (clientId, channel) => classroom.moved(clientId, 'connect', channel),
  published: (clientId, topic, body) => classroom.published(clientId, topic, body),
  gone: (clientId, channel) => classroom.moved(clientId, 'tcpclean', channel),
});

function role(token) {
  return { 'stub-open': 'any', 'stub-teacher': 'teacher', 'stub-student': 'student' }[token];
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://x');
  const origin = `127.0.0.1:${server.address().port}`;
  if (url.pathname === '/login') return login(request, response, url);
  if (url.pathname === '/api/config') {
    const addresses = { websocketUrl: `ws://${origin}/mqtt`, loginUrl: `http://${origin}/login` };
    const groups = { teacherGroup: 'GID_teacher', studentGroup: 'GID_student' };
    return reply(response, 200, {
      ...addresses,
      ...groups,
      accessKey: 'dev',
      instance: 'dev',
      parent: 'room',
      sendParent: 'roomSend',
      p2pSubscribe: false,
    });
  }
  const asked = /^\/api\/rooms\/([\w-]{1,64})\/(\w+)$/u.exec(url.pathname);
  return asked ? api(request, response, url, asked[1], asked[2]) : file(response, url.pathname, origin);
}

async function api(request, response, url, roomId, what) {
  const rights = role(request.headers.authorization?.replace(/^Bearer /u, ''));
  if (!rights) return reply(response, 401, { error: 'log in first' });
  const teacher = rights === 'teacher' || (rights === 'any' && !options.secret);
  if (what === 'history') return reply(response, 200, classroom.history(roomId, Number(url.searchParams.get('limit') ?? 200)));
  if (what === 'members') return reply(response, 200, classroom.members(roomId));
  if (!teacher) return reply(response, 403, { error: 'only a teacher may do that' });
  if (what === 'mutes') return reply(response, 200, classroom.mutes(roomId));
  if (what !== 'notice' || request.method !== 'POST') return reply(response, 404, { error: 'there is no such thing' });
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return reply(response, 202, classroom.notice(roomId, JSON.parse(Buffer.concat(chunks).toString()).text));
}

function login(request, response, url) {
  const cors = { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Headers': 'authorization' };
  if (request.method === 'OPTIONS') return response.writeHead(204, cors).end();
  const shown = request.headers.authorization?.replace(/^Bearer /u, '');
  if (options.secret && shown === options.secret) return response.writeHead(200, cors).end(`stub-${url.searchParams.get('role')}`);
  if (shown !== undefined || url.searchParams.has('clientId')) return response.writeHead(401, cors).end('{"error":"wrong secret"}');
  return response.writeHead(200, cors).end('stub-open');
}

function file(response, path, origin) {
  const name = normalize(path === '/' ? '/index.html' : path);
  try {
    const body = readFileSync(join(dist, name));
    response.writeHead(200, {
      'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream',
      'Content-Security-Policy':
        `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://${origin} http://${origin}; ` +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(body);
  } catch {
    reply(response, 404, { error: 'there is no such page' });
  }
}

function reply(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

server.listen(Number(options['web-port']), '127.0.0.1', () => {
  const web = `127.0.0.1:${server.address().port}`;
  if (options.data) {
    mkdirSync(options.data, { recursive: true });
    writeFileSync(join(options.data, 'dev.json'), JSON.stringify({ pid: process.pid, web, login: web, websocket: web }));
  }
  console.log(`the stub runs at http://${web}`);
});
process.on('SIGTERM', () => process.exit(0));
