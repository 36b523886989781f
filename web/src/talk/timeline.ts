// The conversation as one sequence, from two sources: what arrives live, and what the history answers after each
// (re)connection. It promises: each line stands once, in the room's order, and a hole that could not be filled is marked.
// It never holds more than its bound; the oldest lines go first.

import type { Line } from './wire';

export const MAX_LINES = 2000;

export interface Entry {
  readonly key: string;
  readonly line: Line;
  /** Lines before this one may be missing. */
  readonly gapBefore: boolean;
}

interface Held {
  key: string;
  line: Line;
  gapBefore: boolean;
  /** All of the room up to here is known, since the history was read behind a fence. */
  settled: boolean;
}

export interface Answer {
  readonly lines: readonly Line[];
  /** There are older lines than the first of these. */
  readonly truncated: boolean;
  /** The history was read after the fence had come back, so nothing that was on its way is missing. */
  readonly fenced: boolean;
  /** No more can be had: take the lines as they are, and mark the hole. */
  readonly evenWithGap: boolean;
}

export class Timeline {
  private held: Held[] = [];
  private readonly byId = new Map<string, Held>();
  private readonly byRef = new Map<string, Held>();
  private readonly keys = new Set<string>();
  private inSync = false;
  private made = 0;
  private older = false;

  constructor(private readonly bound = MAX_LINES) {}

  entries(): readonly Entry[] {
    return this.held;
  }

  /** There are lines before the first. */
  hasOlder(): boolean {
    return this.older;
  }

  lineCount(): number {
    return this.held.reduce((sum, one) => sum + (one.line.kind === 'message' ? 1 : 0), 0);
  }

  /** False for a line that is here already. */
  addLive(line: Line): boolean {
    if (this.find(line)) return false;
    this.held.push(this.hold(line, this.inSync && line.kind === 'message'));
    this.trim();
    return true;
  }

  /** From now on lines may be missed, until the history was read behind a fence again. */
  disconnected(): void {
    this.inSync = false;
  }

  /** Takes the history's answer in. False: it does not reach back to what is known, so ask for more. Then nothing changed. */
  merge(answer: Answer): boolean {
    const { lines, truncated, fenced, evenWithGap } = answer;
    const anySettled = this.held.some((one) => one.settled);
    const reachesBack = !truncated || lines.some((line) => this.find(line)?.settled);
    const gap = anySettled && !reachesBack;
    if (gap && !evenWithGap) return false;

    this.held = this.woven(lines);
    const first = lines[0] && this.find(lines[0]);
    if (gap && first) first.gapBefore = true;
    if (!anySettled && truncated) this.older = true;
    if (fenced) {
      this.inSync = true;
      for (const one of this.held) one.settled = one.line.kind === 'message';
    }
    this.trim();
    return true;
  }

  /** Both sequences in one, each in its own order. Lines in both fix the places; between them the time decides. */
  private woven(lines: readonly Line[]): Held[] {
    const places = new Map(this.held.map((one, place) => [one, place]));
    const whole: Held[] = [];
    let next = 0;
    let fresh: Held[] = [];
    for (const line of lines) {
      const known = this.find(line);
      if (!known) {
        fresh.push(this.hold(line, false));
        continue;
      }
      const place = places.get(known);
      // Not in the old sequence: twice in the answer. Before `next`: the two orders differ, and the one on the screen stays.
      if (place === undefined || place < next) continue;
      weave(whole, this.held.slice(next, place), fresh);
      fresh = [];
      whole.push(known);
      next = place + 1;
    }
    weave(whole, this.held.slice(next), fresh);
    return whole;
  }

  /**
   * A line is known by the bridge's id, or by its sender's own reference: a line that was sent again is the same line. But only
   * with the same text: others can write any id and any reference, and must not hide a line by that.
   */
  private find(line: Line): Held | undefined {
    const id = withText(line.id, line);
    const byId = id === null ? undefined : this.byId.get(id);
    if (byId) return byId;
    const ref = withText(refKey(line), line);
    const byRef = ref === null ? undefined : this.byRef.get(ref);
    if (byRef && id !== null) this.byId.set(id, byRef);
    return byRef;
  }

  private hold(line: Line, settled: boolean): Held {
    this.made += 1;
    const wanted = refKey(line) ?? (line.id === null ? null : `i:${line.id}`);
    const key = wanted === null || this.keys.has(wanted) ? `n:${this.made}` : wanted;
    const held = { key, line, settled, gapBefore: false };
    this.keys.add(key);
    const [id, ref] = [withText(line.id, line), withText(refKey(line), line)];
    if (id !== null) this.byId.set(id, held);
    if (ref !== null) this.byRef.set(ref, held);
    return held;
  }

  private trim(): void {
    const over = this.held.length - this.bound;
    if (over <= 0) return;
    const gone = new Set(this.held.splice(0, over));
    for (const one of gone) this.keys.delete(one.key);
    this.older = true;
    for (const map of [this.byId, this.byRef]) {
      for (const [key, one] of map) if (gone.has(one)) map.delete(key);
    }
  }
}

/** The key of a line that its sender marked; the page shows its own lines under it before they come back. */
export function refKey(line: Pick<Line, 'sender' | 'ref'>): string | null {
  return line.ref === null || line.sender === null ? null : `r:${line.sender}\n${line.ref}`;
}

function withText(name: string | null, line: Line): string | null {
  return name === null ? null : `${name}\n${line.text}`;
}

function weave(whole: Held[], old: readonly Held[], fresh: readonly Held[]): void {
  let taken = 0;
  for (const one of old) {
    for (let next = fresh[taken]; next && next.line.timeMs <= one.line.timeMs; next = fresh[taken]) {
      whole.push(next);
      taken += 1;
    }
    whole.push(one);
  }
  whole.push(...fresh.slice(taken));
}
