import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { LinkEvents, LinkOptions } from '../src/net/link';
import { SecretNeeded } from '../src/net/login';
import { RoomSession } from '../src/net/session';
import type { State } from '../src/net/session_parts';
import type { Line } from '../src/talk/wire';
import { ids, line } from './lines';

const SELF = 'GID_student@@@me';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

interface Published {
  readonly topic: string;
  readonly body: Record<string, unknown>;
}

/** A broker that notes everything; the test says what comes back. */
class FakeLink {
  readonly published: Published[] = [];
  subscribed: readonly string[] = [];
  closedByUs = false;
  constructor(
    readonly options: LinkOptions,
    readonly events: LinkEvents,
  ) {}
  async subscribe(topics: readonly string[]): Promise<void> {
    this.subscribed = topics;
  }
  async publish(topic: string, body: string): Promise<void> {
    this.published.push({ topic, body: JSON.parse(body) as Record<string, unknown> });
  }
  close(): void {
    this.closedByUs = true;
  }
  drop(): void {
    this.events.closed({ why: 'lost' });
  }
  said(): Published[] {
    return this.published.filter((one) => 'msg' in one.body);
  }
  fence(): string {
    const refs = this.published.filter((one) => one.body['type'] === 'fence').map((one) => one.body['ref'] as string);
    return refs.at(-1) ?? '';
  }
  privately(body: object): void {
    this.events.message(`room/p2p/${SELF}`, JSON.stringify(body), { id: null, sender: null, arrivedMs: null });
  }
  live(one: Line): void {
    const body = JSON.stringify({ peer: one.sender, roomId: '1', msg: one.text, ...(one.ref ? { ref: one.ref } : {}) });
    this.events.message('room/message/1', body, { id: one.id, sender: one.sender, arrivedMs: one.timeMs });
  }
}

function story(p2pSubscribe = false) {
  const links: FakeLink[] = [];
  const states: State[] = [];
  const history: { lines: Line[]; truncated: boolean } = { lines: [], truncated: false };
  const login = { get: vi.fn(async () => 'token'), refused: vi.fn() };
  const refusals: unknown[] = [];
  const session = new RoomSession({
    config: {
      websocketUrl: 'ws://x/mqtt',
      loginUrl: 'http://x/login',
      accessKey: 'dev',
      instance: 'inst',
      parent: 'room',
      sendParent: 'roomSend',
      teacherGroup: 'GID_teacher',
      studentGroup: 'GID_student',
      p2pSubscribe,
    },
    roomId: '1',
    clientId: SELF,
    login,
    readHistory: async () => ({ lines: [...history.lines], truncated: history.truncated }),
    openLink: (options, events) => {
      const link = new FakeLink(options, events);
      links.push(link);
      return link;
    },
    events: {
      state: (state) => states.push(state),
      changed: () => undefined,
      arrived: () => undefined,
      presence: () => undefined,
      refused: (refusal) => refusals.push(refusal),
      ownMuteHeard: () => undefined,
      historyFailed: () => undefined,
    },
  });
  const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);
  const link = (): FakeLink => {
    const last = links.at(-1);
    if (!last) throw new Error('no connection yet');
    return last;
  };
  const connect = async (): Promise<FakeLink> => {
    await settle();
    link().events.opened();
    await settle();
    return link();
  };
  const catchUp = async (): Promise<void> => {
    link().privately({ type: 'fence', roomId: '1', ref: link().fence() });
    await settle();
  };
  return { session, links, link, states, history, login, refusals, settle, connect, catchUp };
}

describe('a connection', () => {
  it('logs in, subscribes, says hello and then sends a fence', async () => {
    const { session, connect, states, catchUp } = story();
    session.rename('Li Lei');
    session.start();
    const link = await connect();
    expect(link.options).toMatchObject({ clientId: SELF, username: 'Token|dev|inst', password: 'RW|token' });
    expect(JSON.parse(link.options.will.body)).toMatchObject({ type: 'bye', roomId: '1' });
    expect(link.subscribed).toEqual(['room/message/1', 'room/status', 'room/system']);
    expect(link.published.map((one) => [one.topic, one.body['type']])).toEqual([
      ['roomSend/command', 'hello'],
      ['roomSend/message', 'fence'],
    ]);
    expect(link.published[0]?.body['name']).toBe('Li Lei');
    await catchUp();
    expect(states.map((one) => one.is)).toEqual(['left', 'connecting', 'catching_up', 'live']);
  });

  it('says hello again while it lasts, and not after it, for a bridge that was restarted', async () => {
    const { session, connect } = story();
    session.start();
    const link = await connect();
    const hellos = (): Published[] => link.published.filter((one) => one.body['type'] === 'hello');
    await vi.advanceTimersByTimeAsync(30 * 60_000);
    expect(hellos().length).toBeGreaterThanOrEqual(5);
    expect(hellos().length).toBeLessThanOrEqual(9);
    expect(new Set(hellos().map((one) => one.body['channel'])).size).toBe(1);
    const before = hellos().length;
    session.leave();
    await vi.advanceTimersByTimeAsync(30 * 60_000);
    expect(hellos().length).toBe(before);
  });

  it('subscribes its own topic where the broker needs that', async () => {
    const { session, connect } = story(true);
    session.start();
    expect((await connect()).subscribed).toContain(`room/p2p/${SELF}`);
  });

  it('is taken up again, each time with a fence of its own, and nothing is missing or twice', async () => {
    const { session, connect, catchUp, history, link } = story();
    session.start();
    await connect();
    history.lines = [line('1', 1), line('2', 2)];
    await catchUp();
    link().live(line('3', 3));
    const first = link().fence();
    link().drop();
    await vi.advanceTimersByTimeAsync(1000);
    await connect();
    expect(link().fence()).not.toBe(first);
    link().live(line('6', 6));
    history.lines = [1, 2, 3, 4, 5, 6].map((at) => line(String(at), at));
    await catchUp();
    expect(ids(session.timeline.entries())).toEqual(['1', '2', '3', '4', '5', '6']);
  });

  it('that another window took over is left to it', async () => {
    const { session, connect, link, states, links } = story();
    session.start();
    await connect();
    link().events.closed({ why: 'taken_over' });
    await vi.advanceTimersByTimeAsync(120_000);
    expect(states.at(-1)).toEqual({ is: 'replaced' });
    expect(links).toHaveLength(1);
  });

  it('with an old token gets a new one at once, and only then calls it a refusal', async () => {
    const { session, settle, link, login, states, links } = story();
    session.start();
    await settle();
    link().events.closed({ why: 'refused', code: 0x87 });
    expect(login.refused).toHaveBeenCalledTimes(1);
    expect(states.at(-1)).toMatchObject({ is: 'waiting', why: 'lost' });
    await vi.advanceTimersByTimeAsync(1000);
    expect(links).toHaveLength(2);
    link().events.closed({ why: 'refused', code: 0x87 });
    expect(states.at(-1)).toMatchObject({ is: 'waiting', why: 'refused' });
  });

  it('waits for the secret if the login wants one', async () => {
    const { session, settle, states, login, links } = story();
    login.get.mockRejectedValueOnce(new SecretNeeded(true));
    session.start();
    await settle();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(states.at(-1)).toEqual({ is: 'secret', wasWrong: true });
    session.start();
    await settle();
    expect(links).toHaveLength(1);
  });

  it('says goodbye when the page goes', async () => {
    const { session, connect, link } = story();
    session.start();
    await connect();
    session.leave();
    expect(link().published.at(-1)).toMatchObject({ topic: 'roomSend/command', body: { type: 'bye', roomId: '1' } });
    expect(link().closedByUs).toBe(true);
    await vi.advanceTimersByTimeAsync(120_000);
  });
});

describe('own lines', () => {
  it('said without a connection wait, and go out after it', async () => {
    const { session, connect, catchUp } = story();
    session.say('early');
    session.start();
    const link = await connect();
    await catchUp();
    expect(link.said().map((one) => one.body['msg'])).toEqual(['early']);
    expect(link.said()[0]).toMatchObject({ topic: 'roomSend/message', body: { peer: SELF, roomId: '1' } });
  });

  it('are done when they come back', async () => {
    const { session, connect, catchUp, link } = story();
    session.start();
    await connect();
    await catchUp();
    session.say('hi');
    const ref = link().said()[0]?.body['ref'] as string;
    link().live(line('9', 9, { sender: SELF, ref, text: 'hi' }));
    expect(session.outbox.entries()).toEqual([]);
    expect(session.timeline.entries()).toHaveLength(1);
  });

  it('that the history shows after a lost connection are not sent again; others are', async () => {
    const { session, connect, catchUp, link, history } = story();
    session.start();
    await connect();
    await catchUp();
    session.say('arrived');
    session.say('lost');
    const refs = link()
      .said()
      .map((one) => one.body['ref'] as string);
    link().drop();
    await vi.advanceTimersByTimeAsync(1000);
    await connect();
    history.lines = [line('1', 1, { sender: SELF, ref: refs[0] ?? '', text: 'arrived' })];
    await catchUp();
    expect(
      link()
        .said()
        .map((one) => [one.body['msg'], one.body['ref']]),
    ).toEqual([['lost', refs[1]]]);
  });

  it('carry the reason of a refusal, and a mute with an end counts at once', async () => {
    const { session, connect, catchUp, link, refusals } = story();
    session.start();
    await connect();
    await catchUp();
    session.say('hi');
    const untilMs = Date.now() + 60_000;
    link().privately({ type: 'refused', reason: 'muted', detail: 'd', roomId: '1', ref: link().said()[0]?.body['ref'], until: untilMs });
    expect(session.outbox.entries()[0]).toMatchObject({ state: 'refused', reason: 'muted' });
    expect(session.mutes.now(Date.now())).toEqual({ untilMs });
    expect(refusals).toEqual([]);
    link().privately({ type: 'refused', reason: 'not_teacher', detail: 'd' });
    expect(refusals).toHaveLength(1);
  });
});

it('a line for another room or from an unknown topic is not shown', async () => {
  const { session, connect, link } = story();
  session.start();
  await connect();
  link().events.message('room/message/2', '{"msg":"x"}', { id: '1', sender: 'a', arrivedMs: 1 });
  link().events.message('room/system', '{"roomId":"2","text":"x"}', { id: '2', sender: null, arrivedMs: 1 });
  expect(session.timeline.entries()).toEqual([]);
});
