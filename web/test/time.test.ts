import { describe, expect, it } from 'vitest';
import { Backoff } from '../src/talk/backoff';
import { refreshDelayMs } from '../src/talk/people';
import { clockOffsetMs, timeLeft } from '../src/talk/time';

describe('the time left', () => {
  it('is rounded up, so that it ends at zero', () => {
    expect(timeLeft(60_000, 0).clock).toBe('1:00');
    expect(timeLeft(60_000, 1).clock).toBe('1:00');
    expect(timeLeft(60_000, 59_001).clock).toBe('0:01');
    expect(timeLeft(60_000, 60_000).clock).toBe('0:00');
    expect(timeLeft(60_000, 70_000).clock).toBe('0:00');
  });

  it('has hours and days', () => {
    expect(timeLeft(3_605_000, 0)).toEqual({ days: 0, clock: '1:00:05' });
    expect(timeLeft(2 * 86_400_000 + 1, 0).days).toBe(2);
  });
});

describe('the server’s clock', () => {
  it('counts only if it is clearly another', () => {
    const header = 'Fri, 27 Nov 2026 03:00:00 GMT';
    const atMs = Date.parse(header);
    expect(clockOffsetMs(header, atMs + 900)).toBe(0);
    expect(clockOffsetMs(header, atMs - 60_000)).toBe(60_500);
    expect(clockOffsetMs(null, atMs)).toBe(0);
    expect(clockOffsetMs('nonsense', atMs)).toBe(0);
  });
});

describe('waiting for the next try', () => {
  it('gets longer, up to a bound, and starts anew after a connection that held', () => {
    const backoff = new Backoff(() => 0.5);
    const waits = Array.from({ length: 10 }, () => backoff.nextMs());
    expect(waits.slice(0, 4)).toEqual([500, 1000, 2000, 4000]);
    expect(Math.max(...waits)).toBe(30_000);
    expect(backoff.nextMs(60_000)).toBe(500);
  });

  it('is not the same for everybody', () => {
    expect(new Backoff(() => 0).nextMs()).toBe(350);
    expect(new Backoff(() => 1).nextMs()).toBe(650);
  });
});

it('a large class does not ask for its members all at once', () => {
  expect(refreshDelayMs('teacher', 3, () => 0.5)).toBeLessThan(500);
  expect(refreshDelayMs('student', 3, () => 1)).toBeLessThan(500);
  expect(refreshDelayMs('student', 1000, () => 1)).toBeGreaterThan(20_000);
  expect(refreshDelayMs('student', 1000, () => 0)).toBe(250);
});
