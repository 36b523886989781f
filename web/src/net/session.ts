// A reader's stay in one room, over as many connections as it takes: login, connect, subscribe, say hello, catch up, and
// again. It promises: lines on the screen are whole and stand once, own lines have a known fate, and a lost connection is
// taken up again, later each time. It shows nothing itself.

import { Backoff } from '../talk/backoff';
import { Catchup } from '../talk/catchup';
import { OwnMutes } from '../talk/mutes';
import { Outbox } from '../talk/outbox';
import { Timeline } from '../talk/timeline';
import type { Line, Private, Topics } from '../talk/wire';
import { byeBody, fenceBody, helloBody, lineBody, readLine, readNotice, readPresence, readPrivate } from '../talk/wire';
import type { History } from './api';
import { ApiError, topics } from './api';
import { randomText } from './identity';
import type { End, Link, Properties } from './link';
import { Denied } from './link';
import { SecretNeeded } from './login';
import type { Parts, State } from './session_parts';

const REFUSED_AGAIN_MS = 30_000;
const HELLO_AGAIN_MS = 5 * 60_000;

export class RoomSession {
  readonly timeline = new Timeline();
  readonly outbox = new Outbox();
  readonly mutes: OwnMutes;
  readonly topics: Topics;
  private state: State = { is: 'left' };
  private link: Link | null = null;
  private name: string | null = null;
  private channel = '';
  private openedMs = 0;
  private refusals = 0;
  private attempt = 0;
  private incomplete = false;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private pumpTimer: ReturnType<typeof setTimeout> | undefined;
  private helloTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly backoff = new Backoff();
  private readonly catchup: Catchup;

  constructor(private readonly parts: Parts) {
    const { config, roomId, clientId } = parts;
    this.topics = topics(config, roomId, clientId);
    this.mutes = new OwnMutes(roomId);
    this.catchup = new Catchup({
      newRef: () => randomText(20),
      sendFence: (ref) => this.tell(this.topics.say, fenceBody(roomId, ref)),
      readHistory: (limit) => this.readHistory(limit),
      merge: (answer) => this.timeline.merge(answer),
      caughtUp: (fenced) => this.caughtUp(fenced),
      later: (delayMs, run) => {
        const timer = setTimeout(run, delayMs);
        return () => clearTimeout(timer);
      },
    });
  }

  start(): void {
    this.leave();
    void this.connect();
  }

  /** Goes, and says so. */
  leave(): void {
    this.attempt += 1;
    clearTimeout(this.retryTimer);
    const link = this.link;
    this.gone();
    if (link) {
      link.publish(this.topics.command, byeBody(this.parts.roomId, this.channel)).catch(ignore);
      link.close();
    }
    this.become({ is: 'left' });
  }

  /** The network is back, or the reader is: no use in waiting longer. */
  hurry(): void {
    if (this.state.is !== 'waiting') return;
    clearTimeout(this.retryTimer);
    this.backoff.reset();
    void this.connect();
  }

  /** The network is away, the browser says: the connection is dead, however long it takes to notice. */
  networkLost(): void {
    this.link?.drop();
  }

  isConnected(): boolean {
    return this.state.is === 'catching_up' || this.state.is === 'live';
  }

  /** The history that was read last may lack lines. */
  isIncomplete(): boolean {
    return this.incomplete;
  }

  rename(name: string | null): void {
    this.name = name;
    if (this.isConnected()) this.sayHello();
  }

  /** False if too many lines wait already. */
  say(text: string): boolean {
    const added = this.outbox.add(randomText(20), text, Date.now());
    if (added) this.pump();
    return added;
  }

  sayAgain(ref: string): void {
    this.outbox.retry(ref);
    this.pump();
  }

  discard(ref: string): void {
    this.outbox.discard(ref);
    this.parts.events.changed();
  }

  /** A teacher's command. Resolves when the broker has it; whether the class obeys shows in the list of mutes. */
  async command(body: string): Promise<void> {
    if (!this.link || !this.isConnected()) throw new Error('not connected');
    await this.link.publish(this.topics.command, body);
  }

  private async connect(): Promise<void> {
    this.attempt += 1;
    const attempt = this.attempt;
    this.become({ is: 'connecting' });
    let token: string;
    try {
      token = await this.parts.login.get();
    } catch (error) {
      if (attempt !== this.attempt) return;
      if (error instanceof SecretNeeded) this.become({ is: 'secret', wasWrong: error.wasWrong });
      else this.wait('no_server', this.backoff.nextMs());
      return;
    }
    if (attempt !== this.attempt) return;
    const { config, clientId, roomId, openLink } = this.parts;
    this.channel = randomText(16);
    this.openedMs = 0;
    this.link = openLink(
      {
        url: config.websocketUrl,
        clientId,
        username: `Token|${config.accessKey}|${config.instance}`,
        password: `RW|${token}`,
        will: { topic: this.topics.command, body: byeBody(roomId, this.channel) },
      },
      {
        opened: () => void this.enter(attempt),
        message: (topic, body, properties) => this.heard(topic, body, properties),
        closed: (end) => this.closed(end),
      },
    );
  }

  private async enter(attempt: number): Promise<void> {
    const link = this.link;
    if (!link || attempt !== this.attempt) return;
    this.openedMs = Date.now();
    const { lines, presence, notices, own } = this.topics;
    try {
      await link.subscribe([lines, presence, notices, ...(this.parts.config.p2pSubscribe ? [own] : [])]);
    } catch (error) {
      if (link !== this.link) return;
      link.close();
      this.closed(error instanceof Denied ? { why: 'refused', code: 0x87 } : { why: 'lost' });
      return;
    }
    if (link !== this.link) return;
    this.refusals = 0;
    this.become({ is: 'catching_up' });
    this.sayHello();
    this.catchup.start();
    this.pump();
  }

  /** Now and, while the connection lasts, again and again: a bridge that was restarted does not know who is here. */
  private sayHello(): void {
    this.tell(this.topics.command, helloBody(this.parts.roomId, this.name, this.channel));
    clearTimeout(this.helloTimer);
    this.helloTimer = setTimeout(() => this.sayHello(), HELLO_AGAIN_MS * (0.75 + Math.random() / 2));
  }

  private closed(end: End): void {
    this.attempt += 1;
    this.gone();
    if (end.why === 'taken_over') {
      this.become({ is: 'replaced' });
      return;
    }
    const heldMs = this.openedMs === 0 ? 0 : Date.now() - this.openedMs;
    if (end.why === 'lost') {
      this.wait('lost', this.backoff.nextMs(heldMs));
      return;
    }
    // A token that has run out is no news: the next one is tried at once, and only then is it a refusal.
    this.parts.login.refused();
    this.refusals += 1;
    if (this.refusals === 1) this.wait('lost', this.backoff.nextMs(heldMs));
    else this.wait('refused', REFUSED_AGAIN_MS);
  }

  private gone(): void {
    this.link = null;
    clearTimeout(this.pumpTimer);
    clearTimeout(this.helloTimer);
    this.catchup.stop();
    this.timeline.disconnected();
    this.outbox.disconnected();
  }

  private wait(why: Extract<State, { is: 'waiting' }>['why'], delayMs: number): void {
    this.retryTimer = setTimeout(() => void this.connect(), delayMs);
    this.become({ is: 'waiting', atMs: Date.now() + delayMs, why });
  }

  private become(state: State): void {
    this.state = state;
    this.parts.events.state(state);
    this.parts.events.changed();
  }

  private heard(topic: string, body: string, properties: Properties): void {
    const { roomId, events } = this.parts;
    const nowMs = Date.now();
    if (topic === this.topics.lines) {
      const { id, sender, arrivedMs } = properties;
      this.arrived(readLine(body, { id, sender, timeMs: arrivedMs ?? nowMs }));
    } else if (topic === this.topics.notices) {
      const notice = readNotice(body, roomId, properties.id, nowMs);
      if (notice) this.arrived(notice);
    } else if (topic === this.topics.own) {
      const said = readPrivate(body);
      if (said) this.heardPrivately(said, nowMs);
    } else if (topic === this.topics.presence) {
      const presence = readPresence(body, roomId);
      if (presence) events.presence(presence);
    }
  }

  private arrived(line: Line): void {
    this.settleOwn(line);
    if (!this.timeline.addLive(line)) return;
    this.parts.events.arrived(line);
    this.parts.events.changed();
  }

  private settleOwn(line: Line): void {
    if (line.sender === this.parts.clientId && line.ref !== null) this.outbox.returned(line.ref);
  }

  private heardPrivately(said: Private, nowMs: number): void {
    switch (said.type) {
      case 'fence':
        this.catchup.fenceCame(said.ref);
        return;
      case 'shutUp':
        this.mutes.shutUp(said.roomId, said.untilMs);
        if (this.mutes.now(nowMs)) this.outbox.refuseWaiting('muted');
        this.parts.events.ownMuteHeard();
        break;
      case 'unShutUp':
        this.mutes.unShutUp(said.roomId);
        this.parts.events.ownMuteHeard();
        break;
      case 'refused':
        this.heardRefusal(said, nowMs);
        break;
    }
    this.parts.events.changed();
  }

  private heardRefusal(said: Extract<Private, { type: 'refused' }>, nowMs: number): void {
    if (said.ref !== null && this.catchup.fenceRefused(said.ref)) return;
    if (said.reason === 'muted') {
      if (said.untilMs !== null) this.mutes.shutUp(said.roomId, said.untilMs);
      this.parts.events.ownMuteHeard();
    }
    if (said.ref === null || !this.outbox.refused(said.ref, said.reason, nowMs)) this.parts.events.refused(said);
    this.pump();
  }

  private async readHistory(limit: number): Promise<History> {
    try {
      const answer = await this.parts.readHistory(limit);
      for (const line of answer.lines) this.settleOwn(line);
      const { incomplete = false } = answer;
      if (incomplete !== this.incomplete) {
        this.incomplete = incomplete;
        this.parts.events.changed();
      }
      return answer;
    } catch (error) {
      if (error instanceof ApiError) this.parts.events.historyFailed(error);
      throw error;
    }
  }

  private caughtUp(fenced: boolean): void {
    this.outbox.caughtUp(fenced);
    if (this.state.is === 'catching_up') this.become({ is: 'live' });
    else this.parts.events.changed();
    this.pump();
  }

  /** Sends what may be sent now, and comes back for the rest. */
  private pump(): void {
    clearTimeout(this.pumpTimer);
    const { roomId, clientId, events } = this.parts;
    const nowMs = Date.now();
    let waitMs = this.outbox.overdue(nowMs);
    while (this.isConnected()) {
      const next = this.outbox.next(nowMs);
      if (!next) break;
      if ('waitMs' in next) {
        waitMs = Math.min(waitMs ?? next.waitMs, next.waitMs);
        break;
      }
      const { ref, text } = next.line;
      this.link?.publish(this.topics.say, lineBody({ peer: clientId, roomId, text, name: this.name, ref })).catch((error) => {
        if (!(error instanceof Denied)) return;
        this.outbox.refused(ref, 'not_allowed', Date.now());
        events.changed();
      });
      waitMs ??= this.outbox.overdue(nowMs);
    }
    if (waitMs !== null) this.pumpTimer = setTimeout(() => this.pump(), waitMs + 5);
    events.changed();
  }

  private tell(topic: string, body: string): void {
    this.link?.publish(topic, body).catch(ignore);
  }
}

/** A connection that is lost meanwhile is told by `closed`. */
function ignore(): void {
  // Nothing is left to do.
}
