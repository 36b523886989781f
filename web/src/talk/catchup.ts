// Closes the hole between the history and what arrives live, after each (re)connection. The way: once subscribed, a fence is
// sent down the room's own lane; when it comes back, all that was said before it is stored, and all that is said after it
// arrives live. So the history that is read then, merged with what arrived live, is whole.
// It promises: the history is read even if no fence comes back, and read again when one does. It never gives up while the
// connection lasts, and does nothing any more once stopped.

import { Backoff } from './backoff';
import type { Answer } from './timeline';

const FENCE_MS = 5000;
const LONGEST_FENCE_MS = 60_000;
const AFTER_RATE_MS = 2000;
export const FIRST_LIMIT = 200;
export const LARGEST_LIMIT = 2000;

export interface Effects {
  /** A reference that nobody else uses. */
  newRef(): string;
  sendFence(ref: string): void;
  readHistory(limit: number): Promise<Pick<Answer, 'lines' | 'truncated'> & { readonly partial?: boolean }>;
  /** False: it does not reach back to what is known. */
  merge(answer: Answer): boolean;
  caughtUp(fenced: boolean): void;
  later(delayMs: number, run: () => void): () => void;
}

export class Catchup {
  private run = 0;
  private refs = new Set<string>();
  private cancelFence = (): void => undefined;
  private cancelRetry = (): void => undefined;
  private reading = false;
  private wanted: 'nothing' | 'open' | 'fenced' = 'nothing';
  private fenceMs = FENCE_MS;
  private readonly backoff: Backoff;

  constructor(private readonly effects: Effects) {
    this.backoff = new Backoff(() => 0.5);
  }

  /** The connection is there, and everything is subscribed. */
  start(): void {
    this.stop();
    this.fenceMs = FENCE_MS;
    this.backoff.reset();
    this.fence();
  }

  stop(): void {
    this.run += 1;
    this.refs = new Set();
    this.cancelFence();
    this.cancelRetry();
    this.reading = false;
    this.wanted = 'nothing';
  }

  /** A fence came back. False if it is none of this connection's. */
  fenceCame(ref: string): boolean {
    if (!this.refs.has(ref)) return false;
    this.cancelFence();
    this.refs = new Set();
    this.want('fenced');
    return true;
  }

  /** The bridge did not take a fence. False if it is none of this connection's. */
  fenceRefused(ref: string): boolean {
    if (!this.refs.delete(ref)) return false;
    this.cancelFence();
    this.want('open');
    this.cancelFence = this.effects.later(Math.max(AFTER_RATE_MS, this.fenceMs), () => this.fence());
    return true;
  }

  private fence(): void {
    const ref = this.effects.newRef();
    this.refs.add(ref);
    const waitMs = this.fenceMs;
    this.fenceMs = Math.min(LONGEST_FENCE_MS, waitMs * 2);
    this.cancelFence = this.effects.later(waitMs, () => {
      this.want('open');
      this.fence();
    });
    this.effects.sendFence(ref);
  }

  private want(what: 'open' | 'fenced'): void {
    if (this.wanted !== 'fenced') this.wanted = what;
    if (!this.reading) void this.read();
  }

  private next(): Catchup['wanted'] {
    return this.wanted;
  }

  private async read(): Promise<void> {
    const run = this.run;
    const fenced = this.next() === 'fenced';
    this.wanted = 'nothing';
    this.reading = true;
    this.cancelRetry();
    let done = false;
    try {
      done = await this.readBackFarEnough(run, fenced);
    } catch {
      // Who asks says what failed; here only the next try matters.
    }
    if (run !== this.run) return;
    this.reading = false;
    if (done) {
      this.backoff.reset();
      // A fence came meanwhile: the history that is read now is the one that tells.
      if (this.next() === 'nothing') this.effects.caughtUp(fenced);
      if (run === this.run && this.next() !== 'nothing') void this.read();
      return;
    }
    if (this.next() !== 'fenced') this.wanted = fenced ? 'fenced' : 'open';
    this.cancelRetry = this.effects.later(this.backoff.nextMs(), () => void this.read());
  }

  private async readBackFarEnough(run: number, fenced: boolean): Promise<boolean> {
    for (const limit of [FIRST_LIMIT, LARGEST_LIMIT]) {
      const { partial, ...answer } = await this.effects.readHistory(limit);
      if (run !== this.run) return false;
      if (partial) {
        // Better than nothing to who waits; what is missing must not count as read.
        this.effects.merge({ ...answer, truncated: false, fenced: false, evenWithGap: true });
        return false;
      }
      if (this.effects.merge({ ...answer, fenced, evenWithGap: limit === LARGEST_LIMIT })) return true;
    }
    return false;
  }
}
