// One teacher and two students at once, through the server.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Person } from './people.ts';
import { clientId, connected, cut, enter, linesOf, openBrowser, rowOf, say, sees, seesExactly, shows } from './people.ts';
import type { Server } from './server.ts';
import { startServer, usesStub } from './server.ts';

let server: Server;
let browser: Browser;
let teacher: Person;
let lei: Person;
let mei: Person;
const ROOM = '123456';
const all = (): Person[] => [teacher, lei, mei];

beforeAll(async () => {
  server = await startServer();
  browser = await openBrowser();
  teacher = await enter(browser, server.url, { role: 'teacher', room: ROOM, name: 'Ms Han' });
  lei = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Li Lei' });
  mei = await enter(browser, server.url, { role: 'student', room: ROOM, name: '韩梅梅', language: 'zh' });
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

describe('a class', () => {
  it('hears everybody, in one order', async () => {
    await say(lei, 'Good morning!');
    await sees(mei, 'Good morning!');
    await say(mei, '老师好');
    await sees(lei, '老师好');
    await say(teacher, 'Good morning, class.');
    for (const person of all()) await seesExactly(person, ['Good morning!', '老师好', 'Good morning, class.']);
    await shows(lei.page.locator('.conversation__line', { hasText: '老师好' }).getByText('韩梅梅'));
    await shows(
      mei.page.locator('.conversation__line--by-teacher', { hasText: 'Good morning, class.' }).getByText('老师', { exact: true }),
    );
  });

  it('is counted and named', async () => {
    for (const name of ['Ms Han', 'Li Lei', '韩梅梅']) await shows(rowOf(teacher, name).getByText('here', { exact: false }));
    await shows(teacher.page.getByText('3 here'));
    await shows(lei.page.getByText('3 here'));
    await shows(mei.page.getByText('3 人在线'));
    await shows(lei.page.getByText('3 lines'));
  });

  it('lets who comes late read what was said', async () => {
    const late = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Late Lucy' });
    await seesExactly(late, ['Good morning!', '老师好', 'Good morning, class.']);
    expect(await late.page.locator('#announcer').textContent(), 'a screen reader does not hear the history').toBe('');
    await say(lei, 'Hello Lucy');
    await sees(late, 'Hello Lucy');
    await shows(late.page.locator('#announcer [aria-live=polite]').getByText('Li Lei: Hello Lucy'), 'attached');
    expect(await lei.page.locator('#announcer').textContent(), 'nor its own lines').not.toContain('Hello Lucy');
    await late.context.close();
  });

  it('asks who has no name yet, and shows a changed one', async () => {
    const guest = await enter(browser, server.url, { role: 'student', room: ROOM, name: '' });
    await guest.page.getByLabel('What should the class call you?').fill('Uncle Wang');
    await guest.page.getByRole('button', { name: 'Save' }).click();
    await expect.poll(() => guest.page.locator('#say').evaluate((field) => field === document.activeElement)).toBe(true);
    await shows(rowOf(teacher, 'Uncle Wang'));
    await guest.page.getByRole('button', { name: /Change your name/u }).click();
    await guest.page.getByLabel('What should the class call you?').fill('Jim Green');
    await guest.page.keyboard.press('Enter');
    await say(guest, 'it is Jim now');
    await shows(teacher.page.locator('.conversation__line', { hasText: 'it is Jim now' }).getByText('Jim Green'));
    await shows(rowOf(teacher, 'Jim Green'));
    await guest.context.close();
  });

  it('sees who leaves', async () => {
    const guest = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Guest' });
    await shows(rowOf(teacher, 'Guest').getByText('here', { exact: true }));
    await guest.context.close();
    await shows(rowOf(teacher, 'Guest').getByText(/left|not here/u));
    await shows(lei.page.getByText('3 here'));
  });

  it('keeps apart from other rooms', async () => {
    const other = await enter(browser, server.url, { role: 'student', room: '654321', name: 'Elsewhere' });
    await say(other, 'not for you');
    await seesExactly(other, ['not for you']);
    await say(lei, 'for us');
    for (const person of all()) await sees(person, 'for us');
    for (const person of all()) expect(await linesOf(person)).not.toContain('not for you');
    await other.context.close();
  });
});

describe('a mute', () => {
  it('reaches the one it is for, says why and for how long, and silences nobody else', async () => {
    await rowOf(teacher, 'Li Lei').getByRole('button', { name: 'Mute Li Lei' }).click();
    const question = teacher.page.getByRole('dialog');
    await question.getByLabel('5 minutes').check();
    await question.getByRole('button', { name: 'Mute', exact: true }).click();
    await shows(teacher.page.getByText('Li Lei is muted.'));
    await shows(lei.page.getByText(/Your teacher has muted you\. You can write again in [45]:\d\d/u));
    expect(await lei.page.locator('#say').isDisabled()).toBe(true);

    await say(mei, 'I can still speak');
    for (const person of all()) await sees(person, 'I can still speak');
    expect(await mei.page.locator('#say').isDisabled()).toBe(false);
    await shows(teacher.page.locator('.panel', { hasText: 'Muted' }).getByText(/[45]:\d\d left/u));
  });

  it('outlives a reload of the page', async () => {
    const before = await clientId(lei);
    await lei.page.reload();
    await connected(lei);
    expect(await clientId(lei)).toBe(before);
    await shows(lei.page.getByText(/Your teacher has muted you/u));
  });

  it('ends when it is lifted', async () => {
    await rowOf(teacher, 'Li Lei').getByRole('button', { name: 'Unmute Li Lei' }).first().click();
    await shows(teacher.page.getByText('Li Lei may write again.'));
    await expect.poll(() => lei.page.locator('#say').isEnabled()).toBe(true);
    await say(lei, 'thank you');
    for (const person of all()) await sees(person, 'thank you');
  });
});

describe('a notice', () => {
  it('is seen by all, above the conversation and in it', async () => {
    await teacher.page.getByLabel('Text of the notice').fill('Homework: page 12');
    await teacher.page.getByRole('button', { name: 'Send notice' }).click();
    await shows(teacher.page.getByText('The notice is on its way.'));
    for (const person of all()) {
      await shows(person.page.locator('.notices__banner').getByText('Homework: page 12'));
      await shows(person.page.locator('.conversation__line--notice').getByText('Homework: page 12'));
    }
    await lei.page.getByRole('button', { name: 'Hide this notice' }).click();
    expect(await lei.page.locator('.notices__banner').isHidden()).toBe(true);
  });

  it.skipIf(usesStub)('is read in its place by who comes later', async () => {
    await say(lei, 'after the notice');
    const late = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Late Jim' });
    await sees(late, 'after the notice');
    const shown = await late.page.locator('.conversation__line .words').allTextContents();
    expect(shown.slice(-2)).toEqual(['Homework: page 12', 'after the notice']);
    expect(shown.filter((text) => text === 'Homework: page 12')).toHaveLength(1);
    await late.context.close();
  });
});

describe('a lost connection', () => {
  it('leaves no hole and doubles nothing', async () => {
    const before = await linesOf(teacher);
    await lei.context.setOffline(true);
    await shows(lei.page.locator('[data-state="waiting"], [data-state="connecting"]'));
    const missed = Array.from({ length: 12 }, (_, at) => `said while Li Lei was away ${at}`);
    for (const text of missed) {
      await say(mei, text);
      await sees(teacher, text);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    await lei.context.setOffline(false);
    await connected(lei);
    await seesExactly(lei, [...before, ...missed]);
  });

  it('keeps the lines that are said meanwhile, and sends them once', async () => {
    const before = await linesOf(teacher);
    await lei.context.setOffline(true);
    await shows(lei.page.locator('[data-state="waiting"], [data-state="connecting"]'));
    await say(lei, 'said offline 1');
    await say(lei, 'said offline 2');
    await shows(lei.page.getByText(/2 lines wait here/u));
    await lei.context.setOffline(false);
    await connected(lei);
    for (const person of all()) await seesExactly(person, [...before, 'said offline 1', 'said offline 2']);
    expect(await lei.page.locator('.conversation__line--pending').count()).toBe(0);
  });

  it('again and again in the middle of talk still gives each line once, to everybody', async () => {
    const before = await linesOf(teacher);
    const said: string[] = [];
    for (let round = 0; round < 6; round += 1) {
      said.push(`mei ${round}`);
      await say(mei, `mei ${round}`);
      await say(lei, `lei ${round}`);
      await cut(lei);
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    await connected(lei);
    for (const person of all()) {
      await expect
        .poll(async () => (await linesOf(person)).length, { timeout: 30_000, interval: 100, message: person.name })
        .toBe(before.length + 12);
    }
    const whole = await linesOf(teacher);
    expect(new Set(whole).size).toBe(whole.length);
    expect(await linesOf(lei)).toEqual(whole);
    expect(await linesOf(mei)).toEqual(whole);
    expect(whole.filter((text) => /^mei \d$/u.test(text))).toEqual(said);
  });
});

describe.skipIf(usesStub)('a server that is restarted', () => {
  it('finds the class again, with all that was said', async () => {
    const before = await linesOf(teacher);
    await server.restart();
    for (const person of all()) await connected(person);
    await say(mei, 'after the restart');
    for (const person of all()) await seesExactly(person, [...before, 'after the restart']);
    await shows(teacher.page.getByText('3 here'));
  });
});

it('no page complained', () => {
  for (const person of all()) expect(person.complaints, person.name).toEqual([]);
});
