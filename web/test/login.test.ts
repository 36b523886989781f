import { afterEach, describe, expect, it, vi } from 'vitest';
import { Login, SecretNeeded } from '../src/net/login';

afterEach(() => {
  vi.unstubAllGlobals();
});

function store(): Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> & { readonly all: Map<string, string> } {
  const all = new Map<string, string>();
  return {
    all,
    getItem: (key) => all.get(key) ?? null,
    setItem: (key, value) => void all.set(key, value),
    removeItem: (key) => void all.delete(key),
  };
}

/** A login server: the open form, and the one with the secret. */
function server(open: boolean): { readonly asked: URL[] } {
  const asked: URL[] = [];
  vi.stubGlobal('fetch', async (address: string, init: RequestInit) => {
    const url = new URL(address);
    asked.push(url);
    const shown = new Headers(init.headers).get('Authorization');
    const bound = url.searchParams.has('clientId');
    if (bound ? shown === 'Bearer right' : open) return new Response(`${bound ? 'bound' : 'open'}-${asked.length}\n`);
    return new Response('{"error":"no"}', { status: 401 });
  });
  return { asked };
}

const facts = { loginUrl: 'http://127.0.0.1:8081/login', clientId: 'GID_teacher@@@t', roomId: '1' };

describe('a student', () => {
  it('gets the open token, asks once for several, and keeps it over a reload', async () => {
    const { asked } = server(true);
    const kept = store();
    const login = new Login({ ...facts, role: 'student' }, kept);
    expect(await Promise.all([login.get(), login.get()])).toEqual(['open-1', 'open-1']);
    expect(await new Login({ ...facts, role: 'student' }, kept).get()).toBe('open-1');
    expect(asked).toHaveLength(1);
    expect(asked[0]?.search).toBe('');
  });

  it('gets another one when the first was refused', async () => {
    server(true);
    const login = new Login({ ...facts, role: 'student' }, store());
    await login.get();
    login.refused();
    expect(await login.get()).toBe('open-2');
  });

  it('cannot come in where nothing is open', async () => {
    server(false);
    await expect(new Login({ ...facts, role: 'student' }, store()).get()).rejects.toBeInstanceOf(SecretNeeded);
  });

  it('may bring a token along', async () => {
    server(false);
    const login = new Login({ ...facts, role: 'student' }, store());
    login.useToken('brought');
    expect(await login.get()).toBe('brought');
    login.useToken('not a|token');
    expect(await login.get()).toBe('brought');
  });
});

describe('a teacher', () => {
  it('is asked for the secret, and a wrong one is named so', async () => {
    const { asked } = server(false);
    const kept = store();
    const login = new Login({ ...facts, role: 'teacher' }, kept);
    await expect(login.get()).rejects.toMatchObject({ wasWrong: false });
    login.useSecret('wrong');
    await expect(login.get()).rejects.toMatchObject({ wasWrong: true });
    login.useSecret('right');
    expect(await login.get()).toMatch(/^bound-/u);
    expect(asked.at(-1)?.searchParams.get('role')).toBe('teacher');
    expect(JSON.stringify([...kept.all])).not.toContain('right');
  });

  it('comes in without one where the login is open', async () => {
    server(true);
    expect(await new Login({ ...facts, role: 'teacher' }, store()).get()).toMatch(/^open-/u);
  });
});

it('an answer that is no token is none', async () => {
  vi.stubGlobal('fetch', async () => new Response('<html>welcome</html> <p>'));
  await expect(new Login({ ...facts, role: 'student' }, store()).get()).rejects.toThrow('no token');
});
