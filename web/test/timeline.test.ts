import { describe, expect, it } from 'vitest';
import type { Answer } from '../src/talk/timeline';
import { Timeline } from '../src/talk/timeline';
import type { Line } from '../src/talk/wire';
import { ids, line } from './lines';

function answer(lines: readonly Line[], more: Partial<Answer> = {}): Answer {
  return { lines, truncated: false, fenced: true, evenWithGap: false, ...more };
}

function range(from: number, to: number): Line[] {
  return Array.from({ length: to - from + 1 }, (_, step) => line(String(from + step), from + step));
}

/** Deterministic random numbers, so that a failure can be seen again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

describe('joining', () => {
  /** Hazard 22: what arrived live before the history is in both. */
  it('shows a line once that came live and stands in the history', () => {
    const timeline = new Timeline();
    timeline.addLive(line('3', 3));
    timeline.addLive(line('4', 4));
    expect(timeline.merge(answer(range(1, 3)))).toBe(true);
    expect(ids(timeline.entries())).toEqual(['1', '2', '3', '4']);
  });

  it('keeps two lines with equal words', () => {
    const timeline = new Timeline();
    timeline.addLive(line('1', 1, { text: 'hi' }));
    timeline.addLive(line('2', 1, { text: 'hi' }));
    expect(timeline.entries()).toHaveLength(2);
  });

  it('takes a redelivered line for the same', () => {
    const timeline = new Timeline();
    expect(timeline.addLive(line('1'))).toBe(true);
    expect(timeline.addLive(line('1'))).toBe(false);
  });

  it('takes a line that its sender sent again under the same reference for the same', () => {
    const timeline = new Timeline();
    timeline.addLive(line('1', 1, { ref: 'r', text: 'again' }));
    expect(timeline.addLive(line('2', 2, { ref: 'r', text: 'again' }))).toBe(false);
    timeline.merge(answer([line('1', 1, { ref: 'r', text: 'again' }), line('2', 2, { ref: 'r', text: 'again' })]));
    expect(ids(timeline.entries())).toEqual(['1']);
  });

  it('hides no line behind another text under its id or its reference', () => {
    const timeline = new Timeline();
    const said = line('1', 1, { text: 'said', ref: 'r' });
    const forged = line('1', 2, { text: 'forged', ref: 'r' });
    expect([timeline.addLive(said), timeline.addLive(forged), timeline.addLive(forged)]).toEqual([true, true, false]);
    timeline.merge(answer([said, forged]));
    timeline.merge(answer([said, forged, said]));
    expect(timeline.entries().map((entry) => entry.line.text)).toEqual(['said', 'forged']);
    expect(new Set(timeline.entries().map((entry) => entry.key)).size).toBe(2);
  });

  it('does not take equal references of two senders for one line', () => {
    const timeline = new Timeline();
    timeline.addLive(line('1', 1, { ref: 'r' }));
    expect(timeline.addLive(line('2', 2, { ref: 'r', sender: 'GID_student@@@b' }))).toBe(true);
  });

  it('knows that there are older lines', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(5, 9), { truncated: true }));
    expect(timeline.hasOlder()).toBe(true);
    expect(timeline.entries()[0]?.gapBefore).toBe(false);
  });

  it('shows a line once that stands twice in the history', () => {
    const timeline = new Timeline();
    timeline.merge(answer([line('1'), line('2'), line('1')]));
    expect(ids(timeline.entries())).toEqual(['1', '2']);
  });
});

describe('reconnecting', () => {
  it('fills in what was missed, in its place', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(1, 3)));
    timeline.disconnected();
    timeline.addLive(line('7', 7));
    expect(timeline.merge(answer(range(2, 6), { truncated: true }))).toBe(true);
    expect(ids(timeline.entries())).toEqual(['1', '2', '3', '4', '5', '6', '7']);
  });

  it('asks for more if the history does not reach back, and changes nothing', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(1, 3)));
    timeline.disconnected();
    expect(timeline.merge(answer(range(6, 8), { truncated: true }))).toBe(false);
    expect(ids(timeline.entries())).toEqual(['1', '2', '3']);
  });

  it('marks the hole if there is no more to be had', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(1, 3)));
    timeline.disconnected();
    expect(timeline.merge(answer(range(6, 8), { truncated: true, evenWithGap: true }))).toBe(true);
    expect(ids(timeline.entries())).toEqual(['1', '2', '3', '6', '7', '8']);
    expect(
      timeline
        .entries()
        .filter((entry) => entry.gapBefore)
        .map((entry) => entry.line.id),
    ).toEqual(['6']);
  });

  it('is not deceived by live lines of a connection that never read the history', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(1, 3)));
    timeline.disconnected();
    timeline.addLive(line('7', 7));
    timeline.disconnected();
    // 7 is in the answer, but nobody knows of 4 to 6.
    expect(timeline.merge(answer(range(7, 9), { truncated: true }))).toBe(false);
    expect(timeline.merge(answer(range(3, 9), { truncated: true }))).toBe(true);
    expect(ids(timeline.entries())).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9']);
  });

  it('does not call a history whole that was read without a fence', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(1, 3)));
    timeline.disconnected();
    timeline.addLive(line('9', 9));
    timeline.merge(answer(range(2, 4), { truncated: true, fenced: false }));
    timeline.addLive(line('10', 10));
    // Only 1 to 3 are settled, so an answer that starts at 9 does not reach back.
    expect(timeline.merge(answer(range(9, 12), { truncated: true }))).toBe(false);
  });
});

it('keeps each side in its own order, whatever was lost, doubled or late', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const chance = random(seed);
    const timeline = new Timeline();
    const room: Line[] = [];
    let connected = false;
    let pending: Line[] = [];
    for (let step = 0; step < 120; step += 1) {
      const said = line(String(step), step);
      room.push(said);
      if (connected) pending.push(said);
      if (chance() < 0.7) for (const one of pending.splice(0)) timeline.addLive(one);
      if (connected && chance() < 0.05) {
        connected = false;
        pending = [];
        timeline.disconnected();
      } else if (!connected && chance() < 0.3) {
        connected = true;
        if (chance() < 0.7) {
          const from = Math.floor(chance() * room.length);
          const lines = room.slice(from);
          const limited = answer(lines, { truncated: from > 0 });
          if (!timeline.merge(limited)) timeline.merge(answer(room));
        } else {
          timeline.merge(answer(room));
        }
      }
    }
    timeline.disconnected();
    timeline.merge(answer(room));
    expect(ids(timeline.entries()), `seed ${seed}`).toEqual(room.map((one) => one.id));
  }
});

describe('the bound', () => {
  it('drops the oldest lines', () => {
    const timeline = new Timeline(3);
    for (const one of range(1, 5)) timeline.addLive(one);
    expect(ids(timeline.entries())).toEqual(['3', '4', '5']);
    expect(timeline.hasOlder()).toBe(true);
  });

  it('holds for a long history, too', () => {
    const timeline = new Timeline(3);
    timeline.merge(answer(range(1, 9)));
    expect(ids(timeline.entries())).toEqual(['7', '8', '9']);
  });
});

describe('notices', () => {
  const notice = (id: string, timeMs: number): Line => line(id, timeMs, { kind: 'notice', sender: null });

  it('stand where their time puts them, and count as no line', () => {
    const timeline = new Timeline();
    timeline.addLive(notice('n', 2.5));
    timeline.merge(answer(range(1, 4)));
    expect(ids(timeline.entries())).toEqual(['1', '2', 'n', '3', '4']);
    expect(timeline.lineCount()).toBe(4);
  });

  it('prove nothing about the lines around them', () => {
    const timeline = new Timeline();
    timeline.merge(answer(range(1, 2)));
    timeline.addLive(notice('n', 3));
    timeline.disconnected();
    expect(timeline.merge(answer([notice('n', 3), ...range(6, 8)], { truncated: true }))).toBe(false);
  });
});
