import { describe, expect, it } from 'vitest';
import { MAX_WAITING, Outbox } from '../src/talk/outbox';

/** Sends all that may be sent at this moment. */
function drain(outbox: Outbox, nowMs: number): string[] {
  const sent: string[] = [];
  for (let next = outbox.next(nowMs); next && 'line' in next; next = outbox.next(nowMs)) sent.push(next.line.ref);
  return sent;
}

function filled(count: number): Outbox {
  const outbox = new Outbox();
  for (let number = 1; number <= count; number += 1) outbox.add(`r${number}`, `line ${number}`, 0);
  return outbox;
}

describe('a line of one’s own', () => {
  it('shows as sending until it comes back', () => {
    const outbox = filled(1);
    expect(outbox.entries()[0]?.state).toBe('waiting');
    drain(outbox, 1000);
    expect(outbox.entries()[0]?.state).toBe('sending');
    expect(outbox.returned('r1')).toBe(true);
    expect(outbox.entries()).toEqual([]);
    expect(outbox.returned('r1')).toBe(false);
  });

  it('shows the reason if it was refused', () => {
    const outbox = filled(1);
    drain(outbox, 1000);
    outbox.refused('r1', 'muted', 1100);
    expect(outbox.entries()[0]).toMatchObject({ state: 'refused', reason: 'muted' });
    outbox.discard('r1');
    expect(outbox.entries()).toEqual([]);
  });

  it('is sent again by itself if it was too fast, but not for ever', () => {
    const outbox = filled(1);
    let nowMs = 1000;
    let sends = 0;
    for (let round = 0; round < 10; round += 1) {
      sends += drain(outbox, nowMs).length;
      if (outbox.entries()[0]?.state === 'refused') break;
      outbox.refused('r1', 'rate', nowMs);
      expect(drain(outbox, nowMs + 100)).toEqual([]);
      nowMs += 5000;
    }
    expect(sends).toBe(5);
    expect(outbox.entries()[0]).toMatchObject({ state: 'refused', reason: 'rate' });
  });

  it('has no answer after 10 s, and goes out again only at the reader’s word', () => {
    const outbox = filled(1);
    drain(outbox, 1000);
    expect(outbox.overdue(2000)).toBe(9000);
    outbox.overdue(11_000);
    expect(outbox.entries()[0]?.state).toBe('unanswered');
    expect(drain(outbox, 60_000)).toEqual([]);
    outbox.retry('r1');
    expect(drain(outbox, 60_000)).toEqual(['r1']);
  });

  it('that was answered late is back all the same', () => {
    const outbox = filled(1);
    drain(outbox, 1000);
    outbox.overdue(20_000);
    expect(outbox.returned('r1')).toBe(true);
    expect(outbox.entries()).toEqual([]);
  });
});

describe('a lost connection', () => {
  it('leaves lines unsure, which go out again once the history shows that they never arrived', () => {
    const outbox = filled(2);
    drain(outbox, 1000);
    outbox.disconnected();
    expect(outbox.entries().map((one) => one.state)).toEqual(['unsure', 'unsure']);
    outbox.returned('r1');
    outbox.caughtUp(true);
    expect(drain(outbox, 9000)).toEqual(['r2']);
  });

  it('lets no later line overtake an unsure one', () => {
    const outbox = filled(1);
    drain(outbox, 1000);
    outbox.disconnected();
    outbox.add('r2', 'later', 2000);
    expect(drain(outbox, 3000)).toEqual([]);
    outbox.caughtUp(true);
    expect(drain(outbox, 3000)).toEqual(['r1', 'r2']);
  });

  it('leaves the choice to the reader if no fence tells', () => {
    const outbox = filled(1);
    drain(outbox, 1000);
    outbox.disconnected();
    outbox.add('r2', 'later', 2000);
    outbox.caughtUp(false);
    expect(outbox.entries()[0]?.state).toBe('unanswered');
    expect(drain(outbox, 3000)).toEqual(['r2']);
  });
});

describe('bounds', () => {
  it('takes 20 waiting lines and no more', () => {
    const outbox = filled(MAX_WAITING);
    expect(outbox.isFull()).toBe(true);
    expect(outbox.add('one more', 'x', 0)).toBe(false);
    drain(outbox, 1000);
    outbox.returned('r1');
    expect(outbox.add('one more', 'x', 0)).toBe(true);
  });

  it('sends a full queue in its order and slower than the room’s limit', () => {
    const outbox = filled(MAX_WAITING);
    const sent: string[] = [];
    const timesMs: number[] = [];
    for (let nowMs = 1000; sent.length < MAX_WAITING && nowMs < 60_000; nowMs += 50) {
      const batch = drain(outbox, nowMs);
      sent.push(...batch);
      timesMs.push(...batch.map(() => nowMs));
    }
    expect(sent).toEqual(Array.from({ length: MAX_WAITING }, (_, at) => `r${at + 1}`));
    // The bridge: 10 at once, then 5 a second.
    for (const [at, timeMs] of timesMs.entries()) expect(at + 1).toBeLessThanOrEqual(10 + ((timeMs - 1000) / 1000) * 5);
    expect(timesMs.at(-1)).toBeLessThan(6000);
  });

  it('tells how long to wait for the next', () => {
    const outbox = filled(10);
    drain(outbox, 1000);
    const next = outbox.next(1000);
    expect(next).toEqual({ waitMs: 250 });
  });

  it('forgets the oldest of many refused lines', () => {
    const outbox = new Outbox();
    for (let number = 0; number < 50; number += 1) {
      outbox.add(`r${number}`, 'x', 0);
      drain(outbox, number * 1000);
      outbox.refused(`r${number}`, 'muted', 0);
    }
    expect(outbox.entries()).toHaveLength(MAX_WAITING);
    expect(outbox.entries().at(-1)?.ref).toBe('r49');
  });
});

it('lets a mute end what was not sent yet', () => {
  const outbox = filled(2);
  outbox.refuseWaiting('muted');
  expect(outbox.entries().every((one) => one.state === 'refused' && one.reason === 'muted')).toBe(true);
});
