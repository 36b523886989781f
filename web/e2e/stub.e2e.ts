// What only a server can play that does as it is told: a login that is not open, a fence that never comes back.

import mqtt from 'mqtt';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clientId, connected, enter, linesOf, openBrowser, say, sees, seesExactly, shows } from './people.ts';
import { startStub } from './server.ts';

let browser: Browser;

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
});

it('a teacher is asked for the secret, once more after a wrong one, and then has a teacher’s rights', async () => {
  const server = await startStub('--secret', 'open sesame');
  try {
    const teacher = await enter(browser, server.url, { role: 'teacher', room: '1', name: 'Ms Han' });
    await shows(teacher.page.getByText('This login has no teacher rights here.'));
    await teacher.page.getByRole('button', { name: 'Enter the login secret' }).click();
    await teacher.page.getByLabel('Login secret').fill('wrong');
    await teacher.page.getByRole('button', { name: 'Log in' }).click();
    await shows(teacher.page.getByText('That secret was not accepted.'));
    await teacher.page.getByLabel('Login secret').fill('open sesame');
    await teacher.page.keyboard.press('Enter');
    await shows(teacher.page.getByText('Nobody is muted.'));
    await connected(teacher);
    await teacher.page.reload();
    await shows(teacher.page.getByText('Nobody is muted.'));
    const stored = await teacher.page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]));
    expect(stored).not.toContain('sesame');
    await teacher.context.close();
  } finally {
    await server.stop();
  }
});

it('a student may come with a token and the client id that it was made for', async () => {
  const server = await startStub();
  try {
    const guest = await enter(browser, server.url, { role: 'student', room: '1', name: 'A' });
    await guest.page.goto('about:blank');
    await guest.page.goto(`${server.url}/student.html?room=1#token=stub-student&client=GID_student@@@007`);
    await connected(guest);
    expect(await clientId(guest)).toBe('GID_student@@@007');
    expect(guest.page.url()).not.toContain('token');
    await guest.page.reload();
    await connected(guest);
    expect(await clientId(guest)).toBe('GID_student@@@007');
    await guest.context.close();
  } finally {
    await server.stop();
  }
});

it('without a fence the history comes after 5 s', async () => {
  const server = await startStub('--no-fences');
  try {
    const first = await enter(browser, server.url, { role: 'student', room: '1', name: 'A' });
    await say(first, 'hello');
    await sees(first, 'hello');
    const second = await enter(browser, server.url, { role: 'student', room: '1', name: 'B', wait: false });
    await shows(second.page.locator('[data-state="catching_up"]'));
    await connected(second);
    await seesExactly(second, ['hello']);
    for (const { context } of [first, second]) await context.close();
  } finally {
    await server.stop();
  }
});

it('a duplicated window is another person, and both stay connected', async () => {
  const server = await startStub();
  try {
    const first = await enter(browser, server.url, { role: 'student', room: '1', name: 'A' });
    const ids = await first.page.evaluate(() => ({ ...sessionStorage }));
    const page = await first.context.newPage();
    // What a browser does with "duplicate tab".
    await page.addInitScript((entries) => {
      for (const [key, value] of Object.entries(entries)) sessionStorage.setItem(key, sessionStorage.getItem(key) ?? value);
    }, ids);
    await page.goto(first.page.url());
    const second = { ...first, page };
    await connected(second);
    expect(await clientId(second)).not.toBe(await clientId(first));
    await say(second, 'two of me');
    await sees(first, 'two of me');
    await first.context.close();
  } finally {
    await server.stop();
  }
});

it('who looks back keeps their place, and hears how many lines are new', async () => {
  const server = await startStub();
  try {
    const reader = await enter(browser, server.url, { role: 'student', room: '1', name: 'Reader' });
    const talker = await enter(browser, server.url, { role: 'student', room: '1', name: 'Talker' });
    for (let at = 0; at < 40; at += 1) {
      await say(talker, `line ${at}`);
      if (at % 5 === 4) await sees(reader, `line ${at}`);
    }
    const log = reader.page.getByRole('log');
    const gapToEnd = (): Promise<number> => log.evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight);
    await expect.poll(gapToEnd).toBeLessThan(5);
    await log.evaluate((node) => {
      node.scrollTop = 100;
    });
    await say(talker, 'news');
    await shows(reader.page.getByRole('button', { name: '1 new line' }));
    expect(await log.evaluate((node) => node.scrollTop)).toBe(100);
    await reader.page.getByRole('button', { name: '1 new line' }).click();
    await expect.poll(gapToEnd).toBeLessThan(5);
    for (const { context } of [reader, talker]) await context.close();
  } finally {
    await server.stop();
  }
});

it('a long and lively class keeps the newest 2,000 lines, and the page stays quick', async () => {
  const server = await startStub();
  try {
    const reader = await enter(browser, server.url, { role: 'student', room: '1', name: 'Reader' });
    const { websocketUrl } = (await (await fetch(`${server.url}/api/config`)).json()) as { websocketUrl: string };
    const talker = await mqtt.connectAsync(websocketUrl, {
      clientId: 'GID_student@@@talker',
      username: 'Token|dev|dev',
      password: 'RW|stub-open',
      protocolVersion: 5,
    });
    const speak = (at: number): Promise<unknown> =>
      talker.publishAsync('roomSend/message', JSON.stringify({ roomId: '1', msg: `line ${at}` }), { qos: 1 });
    for (let at = 0; at < 2300; at += 1) {
      void speak(at);
      if (at % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await sees(reader, 'line 2299');
    const lines = await linesOf(reader);
    expect(lines).toHaveLength(2000);
    expect(lines[0]).toBe('line 300');
    const started = Date.now();
    await say(reader, 'still quick');
    await sees(reader, 'still quick');
    expect(Date.now() - started).toBeLessThan(3000);
    expect(reader.complaints).toEqual([]);
    await talker.endAsync();
    await reader.context.close();
  } finally {
    await server.stop();
  }
});

it('a full queue says so and loses nothing', async () => {
  const server = await startStub();
  try {
    const student = await enter(browser, server.url, { role: 'student', room: '1', name: 'A' });
    await student.context.setOffline(true);
    await shows(student.page.locator('[data-state="waiting"], [data-state="connecting"]'));
    for (let at = 0; at < 20; at += 1) await say(student, `queued ${at}`);
    await say(student, 'one too many');
    await shows(student.page.getByText(/20 lines are waiting already/u));
    expect(await student.page.locator('#say').inputValue()).toBe('one too many');
    await student.context.setOffline(false);
    await seesExactly(
      student,
      Array.from({ length: 20 }, (_, at) => `queued ${at}`),
    );
    await expect.poll(() => student.page.locator('.conversation__line--pending').count()).toBe(0);
    await student.context.close();
  } finally {
    await server.stop();
  }
});
