// The bodies and topics of the classroom, both ways. It promises: nothing that arrives can break it; what is not understood
// is null. It never trusts a body for who sent it where the bridge says it.

export type Kind = 'message' | 'notice';

/** One line of the conversation. */
export interface Line {
  /** The bridge's id of the message; null where the broker carries no properties. */
  readonly id: string | null;
  /** The verified client id. */
  readonly sender: string | null;
  readonly name: string | null;
  readonly text: string;
  /** The sender's own reference, by which it knows its line again. */
  readonly ref: string | null;
  readonly timeMs: number;
  readonly kind: Kind;
}

export interface LineFacts {
  readonly id: string | null;
  readonly sender: string | null;
  readonly timeMs: number;
}

const REASONS = ['malformed', 'room', 'peer', 'muted', 'rate', 'not_teacher', 'unverified', 'unknown'] as const;
export type Reason = (typeof REASONS)[number];

/** What the bridge says to one client alone. */
export type Private =
  | { readonly type: 'shutUp'; readonly roomId: string | null; readonly untilMs: number | null }
  | { readonly type: 'unShutUp'; readonly roomId: string | null }
  | { readonly type: 'fence'; readonly roomId: string | null; readonly ref: string }
  | {
      readonly type: 'refused';
      readonly reason: Reason;
      readonly detail: string;
      readonly roomId: string | null;
      readonly ref: string | null;
      readonly untilMs: number | null;
    };

export type Presence =
  /** `came`: it has connected, and joins its rooms in a moment. */
  | { readonly type: 'one'; readonly clientId: string; readonly came: boolean }
  | { readonly type: 'summary'; readonly online: number; readonly changed: boolean };

export interface Topics {
  readonly lines: string;
  readonly presence: string;
  readonly notices: string;
  readonly own: string;
  readonly say: string;
  readonly command: string;
}

export const ROOM_ID = /^[A-Za-z0-9_-]{1,64}$/u;
const MAX_REF_LETTERS = 64;

export function topicsOf(parent: string, sendParent: string, roomId: string, clientId: string): Topics {
  return {
    lines: `${parent}/message/${roomId}`,
    presence: `${parent}/status`,
    notices: `${parent}/system`,
    own: `${parent}/p2p/${clientId}`,
    say: `${sendParent}/message`,
    command: `${sendParent}/command`,
  };
}

/** A line of the room, live or from the history. A body that is no JSON object is shown as it is. */
export function readLine(body: string, facts: LineFacts): Line {
  const fields = object(body);
  return {
    id: facts.id,
    sender: facts.sender ?? (fields ? text(fields['peer']) : null),
    name: fields ? text(fields['name']) : null,
    text: fields ? (text(fields['msg']) ?? '') : body,
    ref: fields ? reference(fields['ref']) : null,
    timeMs: facts.timeMs,
    kind: 'message',
  };
}

export function readPrivate(body: string): Private | null {
  const fields = object(body);
  if (!fields) return null;
  const roomId = room(fields['roomId']);
  const ref = reference(fields['ref']);
  switch (fields['type']) {
    case 'shutUp':
      return { type: 'shutUp', roomId, untilMs: milliseconds(fields['until']) };
    case 'unShutUp':
      return { type: 'unShutUp', roomId };
    case 'fence':
      return ref === null ? null : { type: 'fence', roomId, ref };
    case 'refused': {
      const said = text(fields['reason']) ?? '';
      const reason = REASONS.find((one) => one === said) ?? 'unknown';
      const detail = text(fields['detail']) ?? '';
      return { type: 'refused', reason, detail, roomId, ref, untilMs: milliseconds(fields['until']) };
    }
    default:
      return null;
  }
}

/** Who came or went. What names other rooms only is null. */
export function readPresence(body: string, roomId: string): Presence | null {
  const fields = object(body);
  if (!fields) return null;
  if (fields['eventType'] === 'summary') {
    const rooms: unknown[] = Array.isArray(fields['rooms']) ? fields['rooms'] : [];
    const own = rooms.filter(isObject).find((one) => room(one['roomId']) === roomId);
    const online = own ? count(own['online']) : null;
    if (!own || online === null) return null;
    return { type: 'summary', online, changed: Boolean(own['joinedCount']) || Boolean(own['leftCount']) };
  }
  const clientId = text(fields['clientId']);
  const event = text(fields['eventType']);
  if (!clientId || !event) return null;
  if (fields['roomId'] !== undefined && room(fields['roomId']) !== roomId) return null;
  return { type: 'one', clientId, came: event === 'connect' };
}

/** A notice for this room, as a line of its own kind. */
export function readNotice(body: string, roomId: string, id: string | null, nowMs: number): Line | null {
  const fields = object(body);
  const said = fields ? text(fields['text']) : null;
  if (!fields || !said || room(fields['roomId']) !== roomId) return null;
  const timeMs = milliseconds(fields['time']) ?? nowMs;
  return { id, sender: null, name: null, text: said, ref: null, timeMs, kind: 'notice' };
}

export interface Say {
  readonly peer: string;
  readonly roomId: string;
  readonly text: string;
  readonly name: string | null;
  readonly ref: string;
}

export function lineBody(say: Say): string {
  const { peer, roomId, name, ref } = say;
  return JSON.stringify({ peer, roomId, msg: say.text, ...(name ? { name } : {}), ref });
}

export function fenceBody(roomId: string, ref: string): string {
  return JSON.stringify({ type: 'fence', roomId, ref });
}

export function helloBody(roomId: string, name: string | null, channel: string): string {
  return JSON.stringify({ type: 'hello', roomId, ...(name ? { name } : {}), channel });
}

export function byeBody(roomId: string, channel: string): string {
  return JSON.stringify({ type: 'bye', roomId, channel });
}

/** `roomId` null is all rooms, `seconds` null is until lifted. */
export function muteBody(peer: string, roomId: string | null, seconds: number | null, ref: string): string {
  return JSON.stringify({
    type: 'shutUp',
    peer,
    ...(roomId === null ? {} : { roomId }),
    ...(seconds === null ? {} : { seconds }),
    ref,
  });
}

export function unmuteBody(peer: string, roomId: string | null, ref: string): string {
  return JSON.stringify({ type: 'unShutUp', peer, ...(roomId === null ? {} : { roomId }), ref });
}

type Fields = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function object(body: string): Fields | null {
  try {
    const value: unknown = JSON.parse(body);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/** The vendor's pages write a room as text, their server reads it as a number. */
function room(value: unknown): string | null {
  const said = typeof value === 'number' ? String(value) : value;
  return typeof said === 'string' && ROOM_ID.test(said) ? said : null;
}

function reference(value: unknown): string | null {
  return typeof value === 'string' && value.length > 0 && value.length <= MAX_REF_LETTERS ? value : null;
}

function count(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : null;
}

/** Epoch time; ten digits are seconds. */
export function milliseconds(value: unknown): number | null {
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number) || number <= 0) return null;
  return number < 1e11 ? number * 1000 : number;
}
