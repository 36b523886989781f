// Who the reader is: a client id that outlives a reload of this window and no other window has, and a name.

import { shownName } from '../talk/text';

const LETTERS = 'abcdefghijkmnpqrstuvwxyz23456789';
/** So long a page that is reloaded may still hold its id. */
const RELEASE_MS = 1000;
const CLIENT_ID = /^[A-Za-z0-9_-]+@@@[A-Za-z0-9_-]+$/u;
const NAME = 'roombridge.name';

export function randomText(length: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => LETTERS[byte % LETTERS.length]).join('');
}

/**
 * `given`: the id that a token was made for; it stays even if another window has it, for no other one would fit the token.
 * A duplicated window comes with the other one's storage: it gets an id of its own, or the two would throw each other out.
 */
export async function ownClientId(group: string, given: string | null): Promise<string> {
  const key = `roombridge.client.${group}`;
  if (given !== null && CLIENT_ID.test(given)) {
    sessionStorage.setItem(key, given);
    await hold(given);
    return given;
  }
  const kept = sessionStorage.getItem(key);
  if (kept !== null && CLIENT_ID.test(kept) && (await hold(kept))) return kept;
  const fresh = `${group}@@@${randomText(12)}`;
  sessionStorage.setItem(key, fresh);
  await hold(fresh);
  return fresh;
}

/** Keeps the name for as long as the page lives. Without locks (plain HTTP to another machine) it is taken as free. */
async function hold(clientId: string): Promise<boolean> {
  if (!('locks' in navigator)) return true;
  return new Promise((resolve) => {
    const forEver = new Promise<never>(() => undefined);
    const taken = (): Promise<never> => {
      resolve(true);
      return forEver;
    };
    navigator.locks.request(`roombridge.${clientId}`, { signal: AbortSignal.timeout(RELEASE_MS) }, taken).catch(() => resolve(false));
  });
}

/** The name of this window, else the one that was last given on this machine. */
export function keptName(): string | null {
  return shownName(sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME));
}

/** Whether the reader has been asked in this window. */
export function nameWasGiven(): boolean {
  return sessionStorage.getItem(NAME) !== null;
}

export function keepName(name: string): string | null {
  const clean = shownName(name);
  sessionStorage.setItem(NAME, clean ?? '');
  if (clean) localStorage.setItem(NAME, clean);
  return clean;
}
