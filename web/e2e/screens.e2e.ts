// Each page in both languages, by day and by night, at a desk and on a phone: pictures for the eye, and what can be checked
// without one. The pictures go to e2e/screenshots.

import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Person } from './people.ts';
import { enter, openBrowser, rowOf, say, sees, shows } from './people.ts';
import type { Server } from './server.ts';
import { startServer } from './server.ts';

const LOOKS: readonly { readonly name: string; readonly more: BrowserContextOptions }[] = [
  { name: 'desk', more: { viewport: { width: 1280, height: 800 } } },
  { name: 'phone', more: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 } },
  { name: 'desk-dark', more: { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' } },
  {
    name: 'phone-dark',
    more: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, colorScheme: 'dark' },
  },
];
const LANGUAGES = ['en', 'zh'] as const;
const ROOM = '123456';

let server: Server;
let browser: Browser;
const cast: Person[] = [];

beforeAll(async () => {
  server = await startServer();
  browser = await openBrowser();
  const teacher = await enter(browser, server.url, { role: 'teacher', room: ROOM, name: '王老师' });
  const lei = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Li Lei' });
  const mei = await enter(browser, server.url, { role: 'student', room: ROOM, name: '韩梅梅' });
  const jim = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Jim Green' });
  cast.push(teacher, lei, mei, jim);
  const talk: [Person, string][] = [
    [teacher, 'Good morning! Today we look at the water cycle. 今天我们学习水循环。'],
    [lei, 'Good morning, teacher!'],
    [mei, '老师好！'],
    [mei, '请问课本第几页？'],
    [teacher, 'Page 42, please.'],
    [jim, 'Why does the sea not overflow, when all the rivers run into it and it rains on top of that?'],
    [lei, 'Because it evaporates 😀'],
    [jim, 'spam spam spam'],
  ];
  for (const [person, text] of talk) {
    await say(person, text);
    await sees(teacher, text);
  }
  await rowOf(teacher, 'Jim Green').getByRole('button', { name: 'Mute Jim Green' }).click();
  await teacher.page.getByRole('dialog').getByRole('button', { name: 'Mute', exact: true }).click();
  await shows(teacher.page.getByText('Jim Green is muted.'));
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

async function picture(page: Page, name: string): Promise<void> {
  await page.waitForTimeout(300);
  await page.screenshot({ path: fileURLToPath(new URL(`./screenshots/${name}.png`, import.meta.url)) });
}

async function fits(page: Page): Promise<void> {
  const [inner, scroll] = await page.evaluate(() => [window.innerWidth, document.documentElement.scrollWidth] as const);
  expect(scroll).toBeLessThanOrEqual(inner);
}

/** Whatever one can use has a name, and is large enough for a finger on a phone. */
async function usable(page: Page, phone: boolean): Promise<void> {
  const poor = await page.evaluate((touch) => {
    const controls = [...document.querySelectorAll<HTMLElement>('button, input, textarea, a[href], [tabindex="0"]')];
    return controls
      .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.classList.contains('frame__skip'))
      .filter((one) => {
        const labels = 'labels' in one ? [...((one as HTMLInputElement).labels ?? [])].map((label) => label.textContent ?? '') : [];
        const name = one.getAttribute('aria-label') ?? (labels.join('') || one.textContent || '');
        const box = (one.closest('.choice') ?? one).getBoundingClientRect();
        const small = touch && one.tabIndex >= 0 && (box.height < 28 || box.width < 24);
        return name.trim() === '' || small;
      })
      .map((one) => one.outerHTML.slice(0, 120));
  }, phone);
  expect(poor).toEqual([]);
}

describe.each(LOOKS)('$name', ({ name, more }) => {
  it.each(LANGUAGES)('start page, %s', async (language) => {
    const context = await browser.newContext({ ...more, locale: language === 'en' ? 'en-GB' : 'zh-CN' });
    const page = await context.newPage();
    await page.goto(`${server.url}/`);
    await shows(page.getByRole('heading', { level: 1 }));
    expect(await page.evaluate(() => document.documentElement.lang)).toBe(language === 'en' ? 'en-GB' : 'zh-CN');
    await fits(page);
    await usable(page, name.startsWith('phone'));
    await picture(page, `start-${language}-${name}`);
    await context.close();
  });

  it.each(LANGUAGES)('student page, %s', async (language) => {
    const student = await enter(browser, server.url, {
      role: 'student',
      room: ROOM,
      name: language === 'en' ? 'Lucy' : '小明',
      language,
      more,
    });
    await sees(student, 'spam spam spam');
    await say(student, language === 'en' ? 'Is that the hydrologic cycle?' : '这就是水文循环吗？');
    await shows(student.page.locator('.conversation__line--own:not(.conversation__line--pending)'));
    await fits(student.page);
    await usable(student.page, name.startsWith('phone'));
    await picture(student.page, `student-${language}-${name}`);
    await student.context.close();
  });

  it.each(LANGUAGES)('teacher page, %s', async (language) => {
    const teacher = await enter(browser, server.url, { role: 'teacher', room: ROOM, name: '王老师', language, more });
    await sees(teacher, 'spam spam spam');
    await picture(teacher.page, `teacher-${language}-${name}`);
    const opener = teacher.page.locator('.frame__online');
    if (await opener.isEnabled()) {
      await opener.click();
      await shows(rowOf(teacher, 'Jim Green').first());
      await picture(teacher.page, `teacher-${language}-${name}-side`);
    }
    await fits(teacher.page);
    await usable(teacher.page, name.startsWith('phone'));
    await rowOf(teacher, 'Li Lei').getByRole('button').click();
    await shows(teacher.page.getByRole('dialog'));
    await picture(teacher.page, `teacher-${language}-${name}-mute`);
    await teacher.page.keyboard.press('Escape');
    await teacher.context.close();
  });

  it.each(LANGUAGES)('notice, mute and a lost connection, %s', async (language) => {
    const student = await enter(browser, server.url, { role: 'student', room: ROOM, name: `Tom ${name} ${language}`, language, more });
    const [teacher] = cast as [Person];
    await teacher.page.getByLabel('Text of the notice').fill('Break until 10:45. 课间休息到 10:45。');
    await teacher.page.getByRole('button', { name: 'Send notice' }).click();
    await shows(student.page.locator('.notices__banner'));
    await rowOf(teacher, student.name)
      .getByRole('button', { name: `Mute ${student.name}`, exact: true })
      .click();
    await teacher.page.getByRole('dialog').getByRole('button', { name: 'Mute', exact: true }).click();
    await shows(student.page.locator('.composer--muted'));
    await fits(student.page);
    await picture(student.page, `student-${language}-${name}-muted`);
    await student.context.setOffline(true);
    await shows(student.page.locator('[data-state="waiting"]'));
    await picture(student.page, `student-${language}-${name}-lost`);
    await student.context.close();
  });
});

it('everything can be done from the keyboard', async () => {
  const context = await browser.newContext({ locale: 'en-GB' });
  const page = await context.newPage();
  await page.goto(`${server.url}/`);
  const focused = (): Promise<string> =>
    page.evaluate(() => {
      const at = document.activeElement as HTMLInputElement | null;
      return at?.getAttribute('aria-label') ?? at?.labels?.[0]?.textContent ?? at?.textContent ?? '';
    });
  const order: string[] = [];
  for (let press = 0; press < 5; press += 1) {
    await page.keyboard.press('Tab');
    order.push(await focused());
  }
  expect(order.map((one) => one.replace(/ *(Letters|as the|read,).*/u, ''))).toEqual([
    'Switch to Chinese',
    'Student',
    'Room',
    'Your name',
    'Enter the class',
  ]);
  await page.getByLabel(/^Room/u).fill('keys');
  await page.getByLabel(/^Your name/u).fill('Kay');
  await page.keyboard.press('Enter');
  await page.locator('[data-state="live"]').waitFor();
  await page.keyboard.press('Tab');
  expect(await focused()).toBe('Skip to the text field');
  await page.keyboard.press('Enter');
  await page.keyboard.type('typed');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('two rows');
  await page.keyboard.press('Enter');
  await shows(page.locator('.conversation__line--own:not(.conversation__line--pending)', { hasText: 'two rows' }));
  expect(await page.locator('.conversation__line--own .words').textContent()).toBe('typed\ntwo rows');
  await context.close();
});

it('the language can be changed on the spot and is remembered', async () => {
  const student = await enter(browser, server.url, { role: 'student', room: ROOM, name: 'Polly' });
  await student.page.getByRole('button', { name: 'Switch to Chinese' }).click();
  await shows(student.page.getByRole('button', { name: '发送' }));
  await student.page.reload();
  await shows(student.page.getByRole('button', { name: '发送' }));
  await student.context.close();
});
