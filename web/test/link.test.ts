// The connection through the real mqtt.js, against the stub's broker.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
// @ts-expect-error: plain JavaScript, for development only
import { startBroker } from '../dev-stub/broker.mjs';
import type { End, Link, Properties } from '../src/net/link';
import { openLink } from '../src/net/link';

interface Broker {
  toSubscribers(topic: string, body: string, properties?: Record<string, string | string[]>): void;
  close(): void;
}

const server = createServer();
let broker: Broker;
let published: [string, string, string][];
let admitCode: number;

beforeEach(async () => {
  published = [];
  admitCode = 0;
  broker = startBroker(server, '/mqtt', {
    admit: () => admitCode,
    came: () => undefined,
    published: (clientId: string, topic: string, body: string) => published.push([clientId, topic, body]),
    gone: () => undefined,
  }) as Broker;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  broker.close();
  server.removeAllListeners('upgrade');
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** A connection whose events can be awaited. */
function open(clientId: string, port = (server.address() as AddressInfo).port) {
  let isOpen: () => void = () => undefined;
  let hasEnded: (end: End) => void = () => undefined;
  const opened = new Promise<void>((resolve) => (isOpen = resolve));
  const ended = new Promise<End>((resolve) => (hasEnded = resolve));
  const heard: [string, string, Properties][] = [];
  const link: Link = openLink(
    {
      url: `ws://127.0.0.1:${port}/mqtt`,
      clientId,
      username: 'u',
      password: 'p',
      will: { topic: 'will', body: `will of ${clientId}` },
    },
    { opened: isOpen, message: (topic, body, properties) => heard.push([topic, body, properties]), closed: hasEnded },
  );
  return { link, opened, ended, heard };
}

it('publishes, subscribes and reads the properties of the bridge', async () => {
  const { link, opened, heard } = open('a');
  await opened;
  await link.subscribe(['t']);
  await link.publish('up', '你好');
  expect(published).toEqual([['a', 'up', '你好']]);
  broker.toSubscribers('t', 'x', { rbId: '7', clientId: 'b', rbArrivedMs: '1700000000000' });
  broker.toSubscribers('t', 'y', { rbId: ['8', '9'] });
  await expect
    .poll(() => heard)
    .toEqual([
      ['t', 'x', { id: '7', sender: 'b', arrivedMs: 1_700_000_000_000 }],
      // Nobody knows which of the two is right.
      ['t', 'y', { id: null, sender: null, arrivedMs: null }],
    ]);
  link.close();
});

it('a goodbye sends what was published before it, and no last will', async () => {
  const { link, opened } = open('a');
  await opened;
  link.publish('up', 'bye').catch(() => undefined);
  link.close();
  await expect.poll(() => published).toEqual([['a', 'up', 'bye']]);
});

it('a dropped connection is told once, and its last will is sent', async () => {
  const { link, opened, ended } = open('a');
  await opened;
  link.drop();
  expect(await ended).toEqual({ why: 'lost' });
  await expect.poll(() => published).toEqual([['a', 'will', 'will of a']]);
  await expect(link.publish('up', 'x')).rejects.toThrow('not connected');
});

it('a refused login has its code', async () => {
  admitCode = 0x86;
  const { ended } = open('a');
  expect(await ended).toEqual({ why: 'refused', code: 0x86 });
});

it('a connection that another one took over knows it', async () => {
  const first = open('a');
  await first.opened;
  const second = open('a');
  await second.opened;
  expect(await first.ended).toEqual({ why: 'taken_over' });
  second.link.close();
});

it('a broker that is not there is a lost connection', async () => {
  const nobody = createServer();
  await new Promise<void>((resolve) => nobody.listen(0, '127.0.0.1', resolve));
  const { port } = nobody.address() as AddressInfo;
  await new Promise((resolve) => nobody.close(resolve));
  const { ended } = open('a', port);
  expect(await ended).toEqual({ why: 'lost' });
});
