// Keeps the list of members fresh: asked for after somebody came or went, and now and then. It promises: not more often than
// the class can bear, and never two questions at once.

import type { Members, Mute, Role } from '../talk/people';
import { refreshDelayMs } from '../talk/people';
import type { Presence } from '../talk/wire';

const TEACHER_POLL_MS = 20_000;
const STUDENT_POLL_MS = 60_000;
/** A connection is told before its client has subscribed and said hello; then it is a member. */
const SETTLED_MS = 2500;

export interface Sources {
  members(): Promise<Members>;
  /** Null for students. */
  readonly mutes: (() => Promise<readonly Mute[]>) | null;
  mark(): number;
  /** `mark`: what the method gave before the question was asked. */
  freshMembers(members: Members, mark: number): void;
  freshMutes(mutes: readonly Mute[]): void;
  failed(error: unknown): void;
}

export class MembersWatch {
  private online = 0;
  private pollTimer: ReturnType<typeof setTimeout> | undefined;
  private changeTimer: ReturnType<typeof setTimeout> | null = null;
  private someoneCame = false;
  private running: Promise<void> | null = null;
  private again = false;
  private started = false;

  constructor(
    private readonly role: Role,
    private readonly sources: Sources,
  ) {}

  /** From now on it looks by itself. */
  start(): void {
    this.started = true;
    void this.refresh();
  }

  presence(presence: Presence): void {
    if (presence.type === 'summary') {
      this.online = presence.online;
      if (!presence.changed) return;
    }
    this.someoneCame ||= presence.type === 'one' && presence.came;
    this.afterChange(0);
  }

  /** Somebody spoke who is not in the list, or has another name there. */
  unknownSpeaker(): void {
    this.afterChange(SETTLED_MS);
  }

  /** Now, or right after the question that is under way. */
  async refresh(): Promise<void> {
    this.again = this.running !== null;
    this.running ??= this.askUntilDone().finally(() => {
      this.running = null;
    });
    await this.running;
  }

  /** One question for all changes until then: a new draw for each would make the shortest wait win. */
  private afterChange(moreMs: number): void {
    if (!this.started) return;
    this.changeTimer ??= setTimeout(() => {
      this.changeTimer = null;
      const again = this.someoneCame;
      this.someoneCame = false;
      void this.refresh();
      if (again) this.afterChange(SETTLED_MS);
    }, refreshDelayMs(this.role, this.online) + moreMs);
  }

  private async askUntilDone(): Promise<void> {
    do {
      this.again = false;
      await this.ask();
    } while (this.again);
    const pollMs = this.role === 'teacher' ? TEACHER_POLL_MS : STUDENT_POLL_MS * (0.8 + 0.4 * Math.random());
    clearTimeout(this.pollTimer);
    this.pollTimer = setTimeout(() => void this.refresh(), Math.max(pollMs, refreshDelayMs(this.role, this.online)));
  }

  private async ask(): Promise<void> {
    const mark = this.sources.mark();
    try {
      const members = await this.sources.members();
      this.online = members.online;
      this.sources.freshMembers(members, mark);
      if (this.sources.mutes) this.sources.freshMutes(await this.sources.mutes());
    } catch (error) {
      this.sources.failed(error);
    }
  }
}
