// Names and lines that want to be more than text.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Person } from './people.ts';
import { enter, openBrowser, rowOf, say, sees, shows } from './people.ts';
import type { Server } from './server.ts';
import { startServer } from './server.ts';

const ROOM = 'hostile-1';
const NAME = '<img src=x onerror="window.hacked=1">';
const LINES = [
  '<script>window.hacked=1</script>',
  '<img src=x onerror=window.hacked=1>',
  '"><svg onload=window.hacked=1>',
  'javascript:window.hacked=1',
  '{{constructor.constructor("window.hacked=1")()}}',
];

let server: Server;
let browser: Browser;
let teacher: Person;
let mallory: Person;

beforeAll(async () => {
  server = await startServer();
  browser = await openBrowser();
  teacher = await enter(browser, server.url, { role: 'teacher', room: ROOM, name: 'Ms Han' });
  mallory = await enter(browser, server.url, { role: 'student', room: ROOM, name: NAME });
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

it('script in lines and names is shown as text and does nothing', async () => {
  for (const text of LINES) {
    await say(mallory, text);
    await sees(teacher, text);
    await sees(mallory, text);
  }
  await shows(rowOf(teacher, NAME));
  for (const { page } of [teacher, mallory]) {
    expect(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked)).toBeUndefined();
    expect(await page.locator('.conversation :is(img, script, svg), .frame__side img').count()).toBe(0);
  }
});

it('a line cannot turn the reading direction or hide letters', async () => {
  await say(mallory, 'open \u202Egnp.exe\u202C now\u0007');
  await sees(teacher, 'open gnp.exe now');
});

it('a borrowed name does not make a teacher', async () => {
  const forger = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Ms Han' });
  await say(forger, 'no homework today');
  await sees(teacher, 'no homework today');
  const line = teacher.page.locator('.conversation__line', { hasText: 'no homework today' });
  expect(await line.locator('.badge').count()).toBe(0);
  await forger.context.close();
});

it('a very long line and a tower of marks stay within their place', async () => {
  await say(mallory, `long ${'x'.repeat(900)}`);
  await say(mallory, `tower e${'\u0301'.repeat(200)}`);
  await shows(teacher.page.locator('.conversation__line', { hasText: 'tower' }));
  const overflow = await teacher.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(overflow).toBe(0);
  const height = await teacher.page
    .locator('.conversation__line', { hasText: 'tower' })
    .evaluate((node) => node.getBoundingClientRect().height);
  expect(height).toBeLessThan(80);
});

it('a room that cannot be leads to the start page, not to the server', async () => {
  const page = await browser.newPage();
  for (const room of ['*', 'a||b', '../x', '%3Cscript%3E', '']) {
    await page.goto(`${server.url}/student.html?room=${room}`);
    await shows(page.getByRole('link', { name: 'Choose a room' }));
  }
  await page.close();
});

it('no page complained', () => {
  for (const person of [teacher, mallory]) expect(person.complaints, person.name).toEqual([]);
});
