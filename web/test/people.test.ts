import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MembersWatch } from '../src/net/members_watch';
import type { Member } from '../src/talk/people';
import { inOrder, People, readMembers, readMutes } from '../src/talk/people';

function member(clientId: string, more: Partial<Member> = {}): Member {
  return { clientId, name: null, role: 'student', online: true, sinceMs: null, muted: false, mutedUntilMs: null, ...more };
}

describe('the answers of the server', () => {
  it('are read without trust', () => {
    expect(readMembers(null)).toEqual({ online: 0, members: [] });
    expect(readMembers({ online: '3', members: [null, 1, {}, { clientId: 'a', online: true, role: 'boss' }] })).toEqual({
      online: 1,
      members: [member('a')],
    });
    expect(readMutes({ mutes: [{ clientId: 'a', roomId: null, untilMs: null, by: 't', atMs: 1_700_000_000_000 }, 'x'] })).toEqual([
      { clientId: 'a', roomId: null, untilMs: null, by: 't', atMs: 1_700_000_000_000 },
    ]);
  });
});

describe('people', () => {
  it('have the name they said, else the one in the list, else their device', () => {
    const people = new People('GID_teacher');
    people.update([member('GID_student@@@a', { name: 'Li Lei' })], 0);
    expect(people.name('GID_student@@@a', 'Lei')).toBe('Lei');
    expect(people.name('GID_student@@@a')).toBe('Li Lei');
    expect(people.name('GID_student@@@b', '\u200B')).toBe('b');
    expect(people.name(null)).toBe('?');
  });

  it('are news if they are not listed, have left, or have another name', () => {
    const people = new People('GID_teacher');
    people.update([member('a', { name: 'Li Lei' }), member('b', { online: false })], 0);
    expect(people.isNews('a', 'Li Lei')).toBe(false);
    expect(people.isNews('a', null)).toBe(false);
    expect(people.isNews('a', 'Jim')).toBe(true);
    expect(people.isNews('b', null)).toBe(true);
    expect(people.isNews('c', null)).toBe(true);
  });

  it('are teachers if the server says so, and by their group only before it has said anything', () => {
    const people = new People('GID_teacher');
    expect(people.isTeacher('GID_teacher@@@x')).toBe(true);
    people.update([member('GID_teacher@@@x'), member('GID_student@@@y', { role: 'teacher' })], 0);
    expect(people.isTeacher('GID_teacher@@@x')).toBe(false);
    expect(people.isTeacher('GID_student@@@y')).toBe(true);
  });

  it('who are no longer listed have left, and keep their name', () => {
    const people = new People('GID_teacher');
    people.update([member('a', { name: 'Li Lei' }), member('b')], 1000);
    const left = member('a', { name: 'Li Lei', online: false, sinceMs: 2000 });
    expect(people.update([member('b')], 2000)).toEqual([member('b'), left]);
    expect(people.update([member('b')], 3000)).toEqual([member('b'), left]);
    expect(people.name('a')).toBe('Li Lei');
    expect(people.update([member('a'), member('b')], 4000).every((one) => one.online)).toBe(true);
    for (let at = 0; at < 200; at += 1) people.update([member(`guest${at}`)], 5000 + at);
    expect(people.update([], 9000)).toHaveLength(50);
  });

  it('stand with those who are here first, teachers before students', () => {
    const members = [
      member('a', { name: 'Zoe' }),
      member('b', { name: 'Adam', online: false }),
      member('t', { name: 'Teacher', role: 'teacher' }),
      member('c', { name: 'Bob' }),
    ];
    expect(inOrder(members, 'en').map((one) => one.clientId)).toEqual(['t', 'c', 'a', 'b']);
  });
});

describe('the watch over the members', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function watch(role: 'teacher' | 'student', online = 3) {
    let questions = 0;
    let underWay = 0;
    let mostUnderWay = 0;
    const members = async (): Promise<{ online: number; members: Member[] }> => {
      questions += 1;
      underWay += 1;
      mostUnderWay = Math.max(mostUnderWay, underWay);
      await new Promise((resolve) => setTimeout(resolve, 50));
      underWay -= 1;
      return { online, members: [] };
    };
    const one = new MembersWatch(role, {
      members,
      mutes: null,
      mark: () => 0,
      freshMembers: () => undefined,
      freshMutes: () => undefined,
      failed: () => undefined,
    });
    return { one, questions: () => questions, mostUnderWay: () => mostUnderWay };
  }
  const came = { type: 'one', clientId: 'a', came: true } as const;
  const went = { type: 'one', clientId: 'a', came: false } as const;

  it('sees a small change soon', async () => {
    const { one, questions } = watch('teacher');
    one.start();
    await vi.advanceTimersByTimeAsync(1000);
    expect(questions()).toBe(1);
    one.presence(went);
    await vi.advanceTimersByTimeAsync(1000);
    expect(questions()).toBe(2);
  });

  it('looks again for who has come but not yet entered', async () => {
    const { one, questions } = watch('teacher');
    one.start();
    await vi.advanceTimersByTimeAsync(1000);
    one.presence(came);
    await vi.advanceTimersByTimeAsync(5000);
    expect(questions()).toBe(3);
  });

  it('asks little in a storm, and one question at a time', async () => {
    const { one, questions, mostUnderWay } = watch('student', 1000);
    one.start();
    await vi.advanceTimersByTimeAsync(1000);
    for (let at = 0; at < 1000; at += 1) {
      one.presence(came);
      await vi.advanceTimersByTimeAsync(10);
    }
    await vi.advanceTimersByTimeAsync(30_000);
    expect(questions()).toBeLessThan(20);
    for (let at = 0; at < 5; at += 1) void one.refresh();
    await vi.advanceTimersByTimeAsync(1000);
    expect(mostUnderWay()).toBe(1);
  });

  it('asks now and then by itself', async () => {
    const { one, questions } = watch('student');
    one.start();
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(questions()).toBeGreaterThan(5);
    expect(questions()).toBeLessThan(20);
  });
});
