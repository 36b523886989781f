// The token that opens the broker and the API. It promises: one question at a time, and a token that was refused is not shown
// again. The login secret stays in memory, is sent to the login address alone, and is never stored.

import { ApiError, ask } from './api';

const RENEW_MS = 50 * 60_000;
const TOKEN = /^[^\s|,]{1,8192}$/u;

/** The server wants the login secret: none was given, or a wrong one. */
export class SecretNeeded extends Error {
  constructor(readonly wasWrong: boolean) {
    super('the login secret is needed');
  }
}

export interface LoginFacts {
  /** Null where the server has no login: tokens come from elsewhere. */
  readonly loginUrl: string | null;
  readonly clientId: string;
  readonly role: 'teacher' | 'student';
  readonly roomId: string;
}

export class Login {
  private secret: string | null = null;
  private token: string | null = null;
  private asking: Promise<string> | null = null;
  private readonly key: string;

  constructor(
    private readonly facts: LoginFacts,
    private readonly store: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> = sessionStorage,
  ) {
    this.key = `roombridge.token.${facts.clientId}.${facts.roomId}`;
  }

  useSecret(secret: string): void {
    this.secret = secret;
    this.refused();
  }

  /** A token that somebody else got for the reader, as a school's own server does. */
  useToken(token: string): void {
    if (TOKEN.test(token)) this.keep(token);
  }

  async get(): Promise<string> {
    this.token ??= this.stored();
    if (this.token) return this.token;
    this.asking ??= this.ask().finally(() => {
      this.asking = null;
    });
    return this.asking;
  }

  /** The token is no longer good. */
  refused(): void {
    this.token = null;
    this.store.removeItem(this.key);
  }

  private async ask(): Promise<string> {
    const { secret } = this;
    try {
      const token = await this.request(secret);
      this.keep(token);
      return token;
    } catch (error) {
      if (!(error instanceof ApiError) || !error.isDenied()) throw error;
      this.secret = null;
      throw new SecretNeeded(secret !== null);
    }
  }

  /** With the secret a token of one's own, without it the open one. */
  private async request(secret: string | null): Promise<string> {
    const { loginUrl, clientId, role, roomId } = this.facts;
    if (loginUrl === null) throw new SecretNeeded(false);
    const address = new URL(loginUrl);
    const headers = new Headers();
    if (secret !== null) {
      address.searchParams.set('clientId', clientId);
      address.searchParams.set('role', role);
      address.searchParams.set('room', roomId);
      headers.set('Authorization', `Bearer ${secret}`);
    }
    const token = (await (await ask(address.href, { headers })).text()).trim();
    if (!TOKEN.test(token)) throw new ApiError(0, 'the login answers with something that is no token');
    return token;
  }

  private keep(token: string): void {
    this.token = token;
    this.store.setItem(this.key, JSON.stringify([token, Date.now()]));
  }

  private stored(): string | null {
    try {
      const [token, atMs]: unknown[] = JSON.parse(this.store.getItem(this.key) ?? '[]');
      const isFresh = typeof atMs === 'number' && Date.now() - atMs < RENEW_MS;
      return isFresh && typeof token === 'string' && TOKEN.test(token) ? token : null;
    } catch {
      return null;
    }
  }
}

/**
 * `#token=...&client=...` of the page's address, taken out of it so that it is not copied along with the address. `client` is
 * the client id that the token was made for.
 */
export function loginOfAddress(): { readonly token: string | null; readonly client: string | null } {
  const fields = new URLSearchParams(location.hash.slice(1));
  const token = fields.get('token');
  if (token !== null) history.replaceState(null, '', location.pathname + location.search);
  return { token, client: token === null ? null : fields.get('client') };
}
