// Another client in another page of another site: Eclipse Paho 1.0, MQTT 3.1.1 over WebSocket, clean session, QoS 0, no
// subscription for what is for it alone, password `RW|token`. So the vendor's demo pages are built; they share no code with ours.

import { readFileSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBrowser } from './people.ts';
import type { Server } from './server.ts';
import { startServer, usesStub } from './server.ts';

interface Heard {
  readonly topic: string;
  readonly body: string;
}

const ROOM = '123456';
const TEACHER = 'GID_teacher@@@001';
const FIRST = 'GID_student@@@001';
const SECOND = 'GID_student@@@002';

let server: Server;
let browser: Browser;
let site: HttpServer;
let websocketUrl: string;
let loginUrl: string;

beforeAll(async () => {
  server = await startServer();
  browser = await openBrowser();
  ({ websocketUrl, loginUrl } = (await (await fetch(`${server.url}/api/config`)).json()) as { websocketUrl: string; loginUrl: string });
  const library = readFileSync(createRequire(import.meta.url).resolve('paho-mqtt'), 'utf8');
  site = createServer((request, response) => {
    const isScript = request.url === '/paho.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? library : '<!doctype html><title>another site</title><script src="/paho.js"></script>');
  });
  await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
});

afterAll(async () => {
  site?.close();
  await browser?.close();
  await server?.stop();
});

/** A page of the other site whose client is connected and subscribed. */
async function enter(clientId: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
  await page.evaluate(
    async ({ id, mqtt, login, room }) => {
      const token = await (await fetch(login)).text();
      const { hostname, port, pathname } = new URL(mqtt);
      const paho = (window as unknown as { Paho: { MQTT?: unknown } }).Paho;
      const { Client, Message } = (paho.MQTT ?? paho) as {
        Client: new (host: string, port: number, path: string, id: string) => Record<string, unknown>;
        Message: new (body: string) => { destinationName: string; qos: number };
      };
      const client = new Client(hostname, Number(port), pathname, id) as {
        onMessageArrived: (message: { destinationName: string; payloadString: string }) => void;
        connect: (options: unknown) => void;
        subscribe: (filter: string, options: unknown) => void;
        send: (message: unknown) => void;
        disconnect: () => void;
      };
      const arrived: Heard[] = [];
      client.onMessageArrived = (message) => arrived.push({ topic: message.destinationName, body: message.payloadString });
      const send = (topic: string, body: unknown): void => {
        const message = new Message(JSON.stringify(body));
        message.destinationName = topic;
        message.qos = 0;
        client.send(message);
      };
      Object.assign(window, { heard: arrived, say: send, leave: () => client.disconnect() });
      await new Promise<void>((resolve, reject) => {
        client.connect({
          userName: 'Token|dev|dev',
          password: `RW|${token}`,
          cleanSession: true,
          mqttVersion: 4,
          onSuccess: () => resolve(),
          onFailure: (why: { errorMessage: string }) => reject(new Error(why.errorMessage)),
        });
      });
      for (const filter of [`room/message/${room}`, 'room/status', 'room/system']) {
        await new Promise<void>((resolve, reject) => {
          client.subscribe(filter, { qos: 0, onSuccess: () => resolve(), onFailure: () => reject(new Error(filter)) });
        });
      }
    },
    { id: clientId, mqtt: websocketUrl, login: loginUrl, room: ROOM },
  );
  return page;
}

async function say(page: Page, topic: string, body: unknown): Promise<void> {
  const words = [topic, body] as const;
  await page.evaluate(([to, what]) => (window as unknown as { say: (topic: string, body: unknown) => void }).say(to, what), words);
}

async function heard(page: Page, topic: string): Promise<string[]> {
  const all = await page.evaluate(() => (window as unknown as { heard: Heard[] }).heard);
  return all.filter((one) => one.topic === topic).map((one) => one.body);
}

const chat = (peer: string, msg: string): unknown => ({ peer, roomId: ROOM, msg });

it.skipIf(usesStub)('plays the four scenarios as the vendor documents them', async () => {
  const [teacher, first, second] = [await enter(TEACHER), await enter(FIRST), await enter(SECOND)];
  const lines = `room/message/${ROOM}`;

  // Chat: everybody hears the bytes that were sent.
  await say(first, 'roomSend/message', chat(FIRST, 'hello'));
  for (const page of [teacher, first, second]) {
    await expect.poll(() => heard(page, lines)).toEqual([JSON.stringify(chat(FIRST, 'hello'))]);
  }

  // Mute: the one is told without a subscription, and is heard no more.
  await say(teacher, 'roomSend/command', { type: 'shutUp', peer: SECOND });
  await expect.poll(() => heard(second, `room/p2p/${SECOND}`)).toEqual(['{"type":"shutUp"}']);
  await say(second, 'roomSend/message', chat(SECOND, 'can you hear me?'));
  await expect.poll(async () => (await heard(second, `room/p2p/${SECOND}`)).length).toBe(2);
  await say(first, 'roomSend/message', chat(FIRST, 'I am still here'));
  await expect.poll(async () => (await heard(teacher, lines)).length).toBe(2);
  expect((await heard(teacher, lines)).join()).not.toContain('can you hear me?');

  // Presence: who leaves is told in the documented form.
  await second.evaluate(() => (window as unknown as { leave: () => void }).leave());
  await expect
    .poll(async () => (await heard(teacher, 'room/status')).map((body) => JSON.parse(body) as Record<string, unknown>))
    .toContainEqual(
      expect.objectContaining({
        clientId: SECOND,
        eventType: 'tcpclean',
        channelId: expect.any(String),
        clientIp: expect.any(String),
        time: expect.any(Number),
      }),
    );

  // Notice: the platform speaks to the room.
  const answer = await fetch(`${server.url}/api/rooms/${ROOM}/notice`, {
    method: 'POST',
    headers: { authorization: 'Bearer dev', 'content-type': 'application/json' },
    body: JSON.stringify({ text: 'five more minutes' }),
  });
  expect(answer.status).toBe(202);
  await expect.poll(async () => (await heard(first, 'room/system')).join()).toContain('five more minutes');
});
