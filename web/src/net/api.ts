// The server's HTTP interface. It promises: each question has a deadline, and a refusal says what the server said. It never
// sends the token anywhere but to the server that the page came from.

import type { Members, Mute } from '../talk/people';
import { readMembers, readMutes } from '../talk/people';
import { clockOffsetMs } from '../talk/time';
import type { Line, Topics } from '../talk/wire';
import { isObject, milliseconds, readLine, readNotice, topicsOf } from '../talk/wire';

const DEADLINE_MS = 10_000;
const MAX_DETAIL_LETTERS = 300;

export class ApiError extends Error {
  constructor(
    /** 0: no answer at all. */
    readonly status: number,
    readonly detail: string,
    /** The server's name for what went wrong, which stays when the sentence changes; empty if it said none. */
    readonly code = '',
  ) {
    super(detail);
  }

  isDenied(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

/** The server runs, but whoever set it up left something out. */
export class ConfigMissing extends Error {
  constructor(readonly key: string) {
    super(`api/config has no ${key}`);
  }
}

export interface Config {
  readonly websocketUrl: string;
  readonly loginUrl: string | null;
  readonly accessKey: string;
  readonly instance: string;
  readonly parent: string;
  readonly sendParent: string;
  readonly teacherGroup: string;
  readonly studentGroup: string;
  readonly p2pSubscribe: boolean;
}

export interface History {
  readonly lines: readonly Line[];
  readonly truncated: boolean;
  /** A part of it lies where nobody answers now; asked again later, it comes. */
  readonly partial?: boolean;
  /** Something may be missing in it, and to ask again need not help. */
  readonly incomplete?: boolean;
}

export async function readConfig(): Promise<Config> {
  const fields = await json(await ask('api/config'));
  const optional = (key: string): string | null => {
    const value = isObject(fields) ? fields[key] : undefined;
    return typeof value === 'string' ? value : null;
  };
  const text = (key: string): string => {
    const value = optional(key);
    if (value === null) throw new ConfigMissing(key);
    return value;
  };
  const loginUrl = optional('loginUrl');
  return {
    websocketUrl: websocketAddress(text('websocketUrl')),
    loginUrl: loginUrl === null ? null : new URL(loginUrl, document.baseURI).href,
    accessKey: text('accessKey'),
    instance: text('instance'),
    parent: text('parent'),
    sendParent: text('sendParent'),
    teacherGroup: text('teacherGroup'),
    studentGroup: text('studentGroup'),
    p2pSubscribe: isObject(fields) && fields['p2pSubscribe'] === true,
  };
}

/** A relative one is on the page's own server. */
function websocketAddress(said: string): string {
  const address = new URL(said, document.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  return address.href;
}

export function topics(config: Config, roomId: string, clientId: string): Topics {
  return topicsOf(config.parent, config.sendParent, roomId, clientId);
}

/** What the server answers about one room. */
export class RoomApi {
  /** How far the server's clock is before ours, as of the last answer. */
  offsetMs = 0;

  constructor(
    private readonly roomId: string,
    private readonly clientId: string,
    private readonly token: () => Promise<string>,
    /** The token was not good enough. */
    private readonly denied: () => void,
  ) {}

  async history(limit: number): Promise<History> {
    const fields = await this.get(`history?limit=${limit}`);
    if (!isObject(fields) || !Array.isArray(fields['messages'])) throw new ApiError(0, 'the history is not readable', 'unreadable');
    const messages: unknown[] = fields['messages'];
    const lines = messages.flatMap((one) => historyLine(one, this.roomId));
    return {
      lines,
      truncated: fields['truncated'] === true,
      partial: Array.isArray(fields['away']),
      incomplete: fields['complete'] === false,
    };
  }

  async members(): Promise<Members> {
    return readMembers(await this.get('members'));
  }

  async mutes(): Promise<readonly Mute[]> {
    return readMutes(await this.get('mutes'));
  }

  async notice(text: string): Promise<void> {
    await this.request('notice', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ text }),
    });
  }

  private async get(path: string): Promise<unknown> {
    return json(await this.request(path, {}));
  }

  private async request(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set('Authorization', `Bearer ${await this.token()}`);
    // An open token is nobody's; the server judges it by this name, as the broker does at CONNECT.
    headers.set('X-Client-Id', this.clientId);
    try {
      const answer = await ask(`api/rooms/${encodeURIComponent(this.roomId)}/${path}`, { ...init, headers });
      this.offsetMs = clockOffsetMs(answer.headers.get('Date'), Date.now());
      return answer;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.denied();
      throw error;
    }
  }
}

function historyLine(value: unknown, roomId: string): Line[] {
  if (!isObject(value) || typeof value['body'] !== 'string') return [];
  const id = typeof value['id'] === 'string' ? value['id'] : null;
  const timeMs = milliseconds(value['time']) ?? 0;
  const sender = typeof value['sender'] === 'string' ? value['sender'] : null;
  switch (value['kind'] ?? 'message') {
    case 'message':
      return [readLine(value['body'], { id, sender, timeMs })];
    case 'notice': {
      const notice = readNotice(value['body'], roomId, id, timeMs);
      return notice ? [notice] : [];
    }
    default:
      return [];
  }
}

/** One HTTP question; anything but success is an `ApiError`. */
export async function ask(address: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(address, {
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      ...init,
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new ApiError(0, 'no answer', 'no_answer');
  }
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function json(answer: Response): Promise<unknown> {
  try {
    return await answer.json();
  } catch {
    throw new ApiError(0, 'the answer is no JSON', 'unreadable');
  }
}

async function refusalOf(answer: Response): Promise<ApiError> {
  const text = await answer.text().catch(() => '');
  try {
    const fields: unknown = JSON.parse(text);
    if (isObject(fields) && typeof fields['error'] === 'string') {
      const code = typeof fields['code'] === 'string' ? fields['code'] : '';
      return new ApiError(answer.status, fields['error'].slice(0, MAX_DETAIL_LETTERS), code);
    }
  } catch {
    // Not from our server: its number says enough.
  }
  return new ApiError(answer.status, `HTTP ${answer.status}`);
}
