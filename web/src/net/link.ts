// One connection to the broker, by mqtt.js; the only file that names it. It promises: a connection is used once, nothing is
// sent again behind the caller's back, and its end is told once, with the reason. Who connects again, and when, is not its
// business.

import type { IPublishPacket, MqttClient } from 'mqtt';
import mqtt from 'mqtt';

const CONNECT_MS = 10_000;
const KEEP_ALIVE_S = 45;
const TAKEN_OVER = 0x8e;
/** CONNACK: bad user name or password, not authorised, banned; and client id, which no retry changes. */
const REFUSALS = new Set([0x85, 0x86, 0x87, 0x8a]);

export type End =
  | { readonly why: 'lost' }
  /** Another connection uses this client id now. */
  | { readonly why: 'taken_over' }
  | { readonly why: 'refused'; readonly code: number };

export interface Properties {
  readonly id: string | null;
  readonly sender: string | null;
  readonly arrivedMs: number | null;
}

export interface LinkOptions {
  readonly url: string;
  readonly clientId: string;
  readonly username: string;
  readonly password: string;
  readonly will: { readonly topic: string; readonly body: string };
}

export interface LinkEvents {
  opened(): void;
  message(topic: string, body: string, properties: Properties): void;
  closed(end: End): void;
}

export interface Link {
  /** Resolves when the broker has granted each of them. */
  subscribe(topics: readonly string[]): Promise<void>;
  /** Resolves when the broker has taken it over. */
  publish(topic: string, body: string): Promise<void>;
  /** Says goodbye; `closed` is not called any more. */
  close(): void;
  /** Drops the connection as if the network had; the last will is sent. */
  drop(): void;
}

export type OpenLink = (options: LinkOptions, events: LinkEvents) => Link;

/** The broker did not take what was published, or did not grant a subscription. */
export class Denied extends Error {}

export const openLink: OpenLink = (options, events) => {
  const client = mqtt.connect(options.url, {
    clientId: options.clientId,
    username: options.username,
    password: options.password,
    protocolVersion: 5,
    clean: true,
    keepalive: KEEP_ALIVE_S,
    connectTimeout: CONNECT_MS,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    // The other variant starts a worker from a blob: address, which a strict policy forbids.
    timerVariant: 'native',
    // biome-ignore lint/nursery/noUnsafeTypeAssertion: it takes a text as well; its types know the Buffer of Node.js only.
    will: { topic: options.will.topic, payload: options.will.body as never, qos: 1, retain: false },
  });
  return new MqttLink(client, events);
};

class MqttLink implements Link {
  private end: End = { why: 'lost' };
  private over = false;

  constructor(
    private readonly client: MqttClient,
    private readonly events: LinkEvents,
  ) {
    const decoder = new TextDecoder();
    client.on('connect', () => {
      if (!this.over) events.opened();
    });
    client.on('message', (topic, payload, packet) => {
      if (!this.over) events.message(topic, decoder.decode(payload), propertiesOf(packet));
    });
    client.on('disconnect', (packet) => {
      if (packet.reasonCode === TAKEN_OVER) this.end = { why: 'taken_over' };
      else if (REFUSALS.has(packet.reasonCode ?? 0)) this.end = { why: 'refused', code: packet.reasonCode ?? 0 };
    });
    client.on('error', (error) => {
      const code = 'code' in error ? error.code : undefined;
      if (typeof code === 'number' && REFUSALS.has(code)) this.end = { why: 'refused', code };
      this.finish();
    });
    client.on('close', () => this.finish());
  }

  async subscribe(topics: readonly string[]): Promise<void> {
    try {
      await this.client.subscribeAsync([...topics], { qos: 1 });
    } catch (error) {
      throw isDenial(error) ? new Denied(topics.join(', ')) : error;
    }
  }

  async publish(topic: string, body: string): Promise<void> {
    if (this.over || !this.client.connected) throw new Error('not connected');
    await new Promise<void>((resolve, reject) => {
      this.client.publish(topic, body, { qos: 1 }, (error) => {
        if (!error) resolve();
        else reject(isDenial(error) ? new Denied(topic) : error);
      });
    });
  }

  close(): void {
    if (this.over) return;
    this.over = true;
    this.client.end();
  }

  drop(): void {
    this.client.stream.destroy();
    this.finish();
  }

  private finish(): void {
    if (this.over) return;
    this.over = true;
    this.client.end(true);
    this.events.closed(this.end);
  }
}

/** An answer of the broker's with an error code, not a lost connection. */
function isDenial(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && error.code >= 0x80;
}

/** The bridge writes each property once. One that stands there twice is nobody's word. */
function propertiesOf(packet: IPublishPacket): Properties {
  const properties = packet.properties?.userProperties ?? {};
  const text = (key: string): string | null => {
    const value = Object.hasOwn(properties, key) ? properties[key] : undefined;
    return typeof value === 'string' && value !== '' ? value : null;
  };
  const arrivedMs = Number(text('rbArrivedMs'));
  return { id: text('rbId'), sender: text('clientId'), arrivedMs: arrivedMs > 0 ? arrivedMs : null };
}
