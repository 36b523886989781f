import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Effects } from '../src/talk/catchup';
import { Catchup, FIRST_LIMIT, LARGEST_LIMIT } from '../src/talk/catchup';
import { Timeline } from '../src/talk/timeline';
import type { Line } from '../src/talk/wire';
import { ids, line } from './lines';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A room whose history can be set, refused or delayed. */
function room() {
  const fences: string[] = [];
  const limits: number[] = [];
  const caughtUp: boolean[] = [];
  const timeline = new Timeline();
  let history: Effects['readHistory'] = async () => ({ lines: [], truncated: false });
  const effects: Effects = {
    newRef: () => `fence${fences.length + 1}`,
    sendFence: (ref) => fences.push(ref),
    readHistory: (limit) => {
      limits.push(limit);
      return history(limit);
    },
    merge: (answer) => timeline.merge(answer),
    caughtUp: (fenced) => caughtUp.push(fenced),
    later: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
  };
  return {
    catchup: new Catchup(effects),
    timeline,
    fences,
    limits,
    caughtUp,
    historyIs: (lines: readonly Line[], truncated = false) => {
      history = async () => ({ lines, truncated });
    },
    historyIsPartial: (lines: readonly Line[]) => {
      history = async () => ({ lines, truncated: true, partial: true });
    },
    historyFails: () => {
      history = async () => {
        throw new Error('away');
      };
    },
    historyWaits: () => {
      let answer: (lines: readonly Line[]) => void = () => undefined;
      history = () => new Promise((resolve) => (answer = (lines) => resolve({ lines, truncated: false })));
      return (lines: readonly Line[]) => answer(lines);
    },
  };
}

const settle = (): Promise<void> => vi.advanceTimersByTimeAsync(0).then(() => undefined);

describe('after the subscription', () => {
  it('reads the history when the fence is back, not before', async () => {
    const { catchup, fences, limits, caughtUp } = room();
    catchup.start();
    await vi.advanceTimersByTimeAsync(4000);
    expect(limits).toEqual([]);
    expect(catchup.fenceCame(fences[0] ?? '')).toBe(true);
    await settle();
    expect(limits).toEqual([FIRST_LIMIT]);
    expect(caughtUp).toEqual([true]);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(fences).toHaveLength(1);
  });

  it('reads it anyway after 5 s, and again when a fence comes at last', async () => {
    const { catchup, fences, caughtUp, timeline, historyIs } = room();
    historyIs([line('1')]);
    catchup.start();
    await vi.advanceTimersByTimeAsync(5000);
    expect(caughtUp).toEqual([false]);
    expect(fences).toHaveLength(2);
    historyIs([line('1'), line('2')]);
    catchup.fenceCame('fence1');
    await settle();
    expect(caughtUp).toEqual([false, true]);
    expect(ids(timeline.entries())).toEqual(['1', '2']);
  });

  it('goes on asking for a fence, less and less often', async () => {
    const { catchup, fences } = room();
    catchup.start();
    await vi.advanceTimersByTimeAsync(5000 + 10_000 + 20_000);
    expect(fences).toHaveLength(4);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(fences.length).toBeLessThan(16);
  });

  it('knows a fence of another connection from its own', async () => {
    const { catchup, fences, limits } = room();
    catchup.start();
    const old = fences[0] ?? '';
    catchup.start();
    expect(catchup.fenceCame(old)).toBe(false);
    await settle();
    expect(limits).toEqual([]);
  });

  it('tries a refused fence again', async () => {
    const { catchup, fences, caughtUp } = room();
    catchup.start();
    expect(catchup.fenceRefused('fence1')).toBe(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(fences.length).toBeGreaterThan(1);
    catchup.fenceCame(fences.at(-1) ?? '');
    await settle();
    expect(caughtUp.at(-1)).toBe(true);
  });
});

describe('the history', () => {
  it('is asked for again until it answers', async () => {
    const { catchup, caughtUp, limits, historyFails, historyIs } = room();
    historyFails();
    catchup.start();
    catchup.fenceCame('fence1');
    await vi.advanceTimersByTimeAsync(10_000);
    expect(limits.length).toBeGreaterThan(2);
    expect(caughtUp).toEqual([]);
    historyIs([line('1')]);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(caughtUp).toEqual([true]);
  });

  it('that lacks a part is shown, and asked for again until it is whole', async () => {
    const { catchup, caughtUp, timeline, historyIsPartial, historyIs } = room();
    historyIsPartial([line('2')]);
    catchup.start();
    catchup.fenceCame('fence1');
    await settle();
    expect(ids(timeline.entries())).toEqual(['2']);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(caughtUp).toEqual([]);
    historyIs([line('1'), line('2')]);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(caughtUp).toEqual([true]);
    expect(ids(timeline.entries())).toEqual(['1', '2']);
    expect(timeline.entries().some((entry) => entry.gapBefore)).toBe(false);
  });

  it('is read with a larger limit if it does not reach back', async () => {
    const { catchup, fences, limits, timeline, historyIs } = room();
    timeline.merge({ lines: [line('1', 1)], truncated: false, fenced: true, evenWithGap: false });
    timeline.disconnected();
    historyIs([line('8', 8), line('9', 9)], true);
    catchup.start();
    catchup.fenceCame(fences[0] ?? '');
    await settle();
    expect(limits).toEqual([FIRST_LIMIT, LARGEST_LIMIT]);
    expect(timeline.entries().some((entry) => entry.gapBefore)).toBe(true);
  });

  it('that was asked for before the fence came does not count as behind it', async () => {
    const { catchup, caughtUp, limits, timeline, historyWaits, historyIs } = room();
    const answerNow = historyWaits();
    catchup.start();
    await vi.advanceTimersByTimeAsync(5000);
    expect(limits).toHaveLength(1);
    catchup.fenceCame('fence1');
    historyIs([line('1'), line('2')]);
    answerNow([line('1')]);
    await settle();
    expect(limits).toHaveLength(2);
    expect(caughtUp).toEqual([true]);
    expect(ids(timeline.entries())).toEqual(['1', '2']);
  });

  it('of a connection that is gone changes nothing', async () => {
    const { catchup, caughtUp, timeline, historyWaits } = room();
    const answerNow = historyWaits();
    catchup.start();
    catchup.fenceCame('fence1');
    await settle();
    catchup.stop();
    answerNow([line('1')]);
    await settle();
    expect(caughtUp).toEqual([]);
    expect(timeline.entries()).toEqual([]);
  });
});
