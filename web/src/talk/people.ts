// Who is in the room, for names, roles and counts. It promises: a name is always fit to be shown, and a teacher is who the
// server calls one.

import { deviceName, shownName } from './text';
import { isObject, milliseconds } from './wire';

/** So many of those who left are remembered. */
const MAX_LEFT = 50;

export type Role = 'teacher' | 'student';

export interface Member {
  readonly clientId: string;
  readonly name: string | null;
  readonly role: Role;
  readonly online: boolean;
  readonly sinceMs: number | null;
  readonly muted: boolean;
  readonly mutedUntilMs: number | null;
}

export interface Members {
  readonly online: number;
  readonly members: readonly Member[];
}

export interface Mute {
  readonly clientId: string;
  readonly roomId: string | null;
  readonly untilMs: number | null;
  readonly by: string | null;
  readonly atMs: number | null;
}

/** The answer of `members`; what in it is not understood is left out. */
export function readMembers(value: unknown): Members {
  const fields = isObject(value) ? value : {};
  const members = list(fields['members']).flatMap((one): Member[] => {
    if (typeof one['clientId'] !== 'string') return [];
    return [
      {
        clientId: one['clientId'],
        name: typeof one['name'] === 'string' ? one['name'] : null,
        role: one['role'] === 'teacher' ? 'teacher' : 'student',
        online: one['online'] === true,
        sinceMs: milliseconds(one['sinceMs']),
        muted: one['muted'] === true,
        mutedUntilMs: milliseconds(one['mutedUntilMs']),
      },
    ];
  });
  const online = typeof fields['online'] === 'number' ? fields['online'] : members.filter((one) => one.online).length;
  return { online, members };
}

export function readMutes(value: unknown): readonly Mute[] {
  return list(isObject(value) ? value['mutes'] : []).flatMap((one): Mute[] => {
    if (typeof one['clientId'] !== 'string') return [];
    return [
      {
        clientId: one['clientId'],
        roomId: typeof one['roomId'] === 'string' ? one['roomId'] : null,
        untilMs: milliseconds(one['untilMs']),
        by: typeof one['by'] === 'string' ? one['by'] : null,
        atMs: milliseconds(one['atMs']),
      },
    ];
  });
}

function list(value: unknown): Readonly<Record<string, unknown>>[] {
  const all: unknown[] = Array.isArray(value) ? value : [];
  return all.filter(isObject);
}

/** Teachers first, then who is here, then by name. */
export function inOrder(members: readonly Member[], language: string): readonly Member[] {
  const byName = new Intl.Collator(language, { numeric: true });
  const rank = (one: Member): number => (one.role === 'teacher' ? 0 : 2) + (one.online ? 0 : 1);
  return [...members].sort(
    (one, other) =>
      Number(other.online) - Number(one.online) ||
      rank(one) - rank(other) ||
      byName.compare(nameOf(one), nameOf(other)) ||
      (one.clientId < other.clientId ? -1 : 1),
  );
}

function nameOf(member: Member): string {
  return shownName(member.name) ?? deviceName(member.clientId);
}

/** Names and roles by client id. */
export class People {
  private byId = new Map<string, Member>();

  constructor(private readonly teacherGroup: string) {}

  /** All that are known now: the server lists who is here, and those who were here before have left. */
  update(members: readonly Member[], nowMs: number): readonly Member[] {
    const here = new Set(members.map((one) => one.clientId));
    const gone = [...this.byId.values()].filter((one) => !here.has(one.clientId));
    const left = gone.map((one) => (one.online ? { ...one, online: false, sinceMs: nowMs, muted: false, mutedUntilMs: null } : one));
    left.sort((one, other) => (other.sinceMs ?? 0) - (one.sinceMs ?? 0));
    const known = [...members, ...left.slice(0, MAX_LEFT)];
    this.byId = new Map(known.map((one) => [one.clientId, one]));
    return known;
  }

  get(clientId: string): Member | undefined {
    return this.byId.get(clientId);
  }

  name(clientId: string | null, said: string | null = null): string {
    if (clientId === null) return shownName(said) ?? '?';
    return shownName(said) ?? shownName(this.byId.get(clientId)?.name) ?? deviceName(clientId);
  }

  /** Not in the list, or by another name. */
  isNews(clientId: string, said: string | null): boolean {
    const known = this.byId.get(clientId);
    return !known?.online || (said !== null && shownName(said) !== shownName(known.name));
  }

  isTeacher(clientId: string | null): boolean {
    if (clientId === null) return false;
    const known = this.byId.get(clientId);
    return known ? known.role === 'teacher' : clientId.startsWith(`${this.teacherGroup}@@@`);
  }
}

/**
 * When to ask for the members again after somebody came or went. A teacher at once; a class of students not all together, and
 * the larger the class the later, so that 1,000 joins are no 1,000,000 questions.
 */
export function refreshDelayMs(role: Role, online: number, random: () => number = Math.random): number {
  const spreadMs = Math.min(30_000, online * (role === 'teacher' ? 5 : 30));
  return 250 + Math.round(spreadMs * (role === 'teacher' ? 1 : random()));
}
