// The reader's own lines on their way: kept in order, bounded, each with a state that can be shown, until it comes back from
// the room. It promises: a line is sent again only if it is known not to have arrived, or if the reader says so, and always
// under the same reference. It never sends faster than the room allows.

import type { Reason } from './wire';

export const MAX_WAITING = 20;
/** Below what the bridge allows a client (5 a second, 10 at once). */
const SENDS_PER_S = 4;
const SENDS_AT_ONCE = 8;
const ANSWER_MS = 10_000;
const RATE_PAUSE_MS = 2000;
const MAX_RATE_REFUSALS = 5;

/**
 * waiting: not sent yet. sending: sent, not back yet. unsure: the connection was lost meanwhile; the history will tell.
 * unanswered: no word about it. refused: not said in the room.
 */
export type State = 'waiting' | 'sending' | 'unsure' | 'unanswered' | 'refused';

export interface Outgoing {
  readonly ref: string;
  readonly text: string;
  readonly addedMs: number;
  readonly state: State;
  readonly reason: Reason | 'not_allowed' | null;
}

interface Held {
  ref: string;
  text: string;
  addedMs: number;
  state: State;
  reason: Outgoing['reason'];
  sentMs: number;
  rateRefusals: number;
}

export class Outbox {
  private lines: Held[] = [];
  private credit = SENDS_AT_ONCE;
  private creditMs = 0;
  private pausedUntilMs = 0;

  entries(): readonly Outgoing[] {
    return this.lines;
  }

  /** Lines that still want to be sent or known; the bound is theirs. */
  waitingCount(): number {
    return this.lines.filter((line) => line.state === 'waiting' || line.state === 'sending' || line.state === 'unsure').length;
  }

  isFull(): boolean {
    return this.waitingCount() >= MAX_WAITING;
  }

  /** False if too many lines wait already. */
  add(ref: string, text: string, nowMs: number): boolean {
    if (this.isFull()) return false;
    this.lines.push({ ref, text, addedMs: nowMs, state: 'waiting', reason: null, sentMs: 0, rateRefusals: 0 });
    this.forgetOldEnds();
    return true;
  }

  /** The next line to send now, or how long to wait for it; null if there is none. Lines of unsure fate come first. */
  next(nowMs: number): { readonly line: Outgoing } | { readonly waitMs: number } | null {
    const line = this.lines.find((one) => one.state === 'waiting' || one.state === 'unsure');
    if (!line || line.state === 'unsure') return null;
    if (nowMs < this.pausedUntilMs) return { waitMs: this.pausedUntilMs - nowMs };
    this.credit = Math.min(SENDS_AT_ONCE, this.credit + (Math.max(0, nowMs - this.creditMs) * SENDS_PER_S) / 1000);
    this.creditMs = nowMs;
    if (this.credit < 1) return { waitMs: Math.ceil(((1 - this.credit) * 1000) / SENDS_PER_S) };
    this.credit -= 1;
    line.state = 'sending';
    line.sentMs = nowMs;
    return { line };
  }

  /** It came back from the room. False if it is none of ours. */
  returned(ref: string): boolean {
    const before = this.lines.length;
    this.lines = this.lines.filter((line) => line.ref !== ref);
    return this.lines.length < before;
  }

  /** The room did not take it. Too fast is tried again, a few times. False if it is none of ours. */
  refused(ref: string, reason: NonNullable<Outgoing['reason']>, nowMs: number): boolean {
    const line = this.find(ref);
    if (!line) return false;
    line.rateRefusals += reason === 'rate' ? 1 : 0;
    if (reason === 'rate' && line.rateRefusals < MAX_RATE_REFUSALS) {
      line.state = 'waiting';
      this.pausedUntilMs = nowMs + RATE_PAUSE_MS;
    } else {
      line.state = 'refused';
      line.reason = reason;
    }
    this.forgetOldEnds();
    return true;
  }

  /** What was not sent yet will not be: the reader is muted. */
  refuseWaiting(reason: Reason): void {
    for (const line of this.lines) {
      if (line.state !== 'waiting') continue;
      line.state = 'refused';
      line.reason = reason;
    }
  }

  disconnected(): void {
    for (const line of this.lines) if (line.state === 'sending') line.state = 'unsure';
  }

  /**
   * The history of this connection was read. Behind a fence, what is still unsure never arrived: it is sent again. Without
   * one nobody knows: the reader decides.
   */
  caughtUp(fenced: boolean): void {
    for (const line of this.lines) if (line.state === 'unsure') line.state = fenced ? 'waiting' : 'unanswered';
  }

  /** Marks lines whose answer is overdue; tells when to look again, null if nothing is out. */
  overdue(nowMs: number): number | null {
    let soonestMs: number | null = null;
    for (const line of this.lines) {
      if (line.state !== 'sending') continue;
      const leftMs = line.sentMs + ANSWER_MS - nowMs;
      if (leftMs <= 0) line.state = 'unanswered';
      else soonestMs = Math.min(soonestMs ?? leftMs, leftMs);
    }
    return soonestMs;
  }

  retry(ref: string): void {
    const line = this.find(ref);
    if (!line || (line.state !== 'refused' && line.state !== 'unanswered') || this.isFull()) return;
    line.state = 'waiting';
    line.reason = null;
    line.rateRefusals = 0;
  }

  /** Takes a line away that was refused, or that has no answer. */
  discard(ref: string): void {
    this.lines = this.lines.filter((line) => line.ref !== ref || (line.state !== 'refused' && line.state !== 'unanswered'));
  }

  private find(ref: string): Held | undefined {
    return this.lines.find((line) => line.ref === ref);
  }

  private forgetOldEnds(): void {
    const ended = this.lines.filter((line) => line.state === 'refused' || line.state === 'unanswered');
    const tooMany = new Set(ended.slice(0, Math.max(0, ended.length - MAX_WAITING)));
    if (tooMany.size > 0) this.lines = this.lines.filter((line) => !tooMany.has(line));
  }
}
