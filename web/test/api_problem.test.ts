import { afterEach, describe, expect, it, vi } from 'vitest';
import { en } from '../src/i18n/en';
import { switchLanguage } from '../src/i18n/language';
import { zh } from '../src/i18n/zh';
import { ApiError, ask } from '../src/net/api';
import { wordsOf } from '../src/ui/api_problem';

async function refused(answer: Response): Promise<ApiError> {
  vi.stubGlobal('fetch', () => Promise.resolve(answer));
  const error = await ask('api/config').catch((thrown: unknown) => thrown);
  if (!(error instanceof ApiError)) throw new Error(`no ApiError: ${String(error)}`);
  return error;
}

describe('what the server refuses', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('is said in the language of the page, by its code', async () => {
    vi.stubGlobal('localStorage', { setItem: () => undefined, getItem: () => null });
    vi.stubGlobal('document', { documentElement: {} });
    const body = JSON.stringify({ error: 'there are more messages than --from can say', code: 'too_many_messages' });
    const error = await refused(new Response(body, { status: 502 }));
    expect([error.status, error.code]).toEqual([502, 'too_many_messages']);
    expect(wordsOf(error)).toBe(en.problem_too_many_messages);
    switchLanguage();
    expect(wordsOf(error)).toBe(zh.problem_too_many_messages);
    switchLanguage();
  });

  it('is shown as it was said where the code is not known', async () => {
    const newer = new Response('{"error":"no tea","code":"teapot"}', { status: 418 });
    expect(wordsOf(await refused(newer))).toBe('no tea');
    expect(wordsOf(await refused(new Response('<html>', { status: 500 })))).toBe('HTTP 500');
    for (const strange of ['__proto__', 'toString', '']) expect(wordsOf(new ApiError(500, 'as said', strange))).toBe('as said');
  });
});
