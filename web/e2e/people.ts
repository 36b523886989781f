// Browsers with people before them, who find things by their names as readers do.

import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { expect, vi } from 'vitest';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const SOON = { timeout: 20_000, interval: 50 };

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium', headless: true, args: FLAGS });
}

export interface Person {
  readonly name: string;
  readonly page: Page;
  readonly context: BrowserContext;
  /** What the browser complained about: errors of the page and of its policy. */
  readonly complaints: string[];
}

export interface EnterOptions {
  readonly role: 'teacher' | 'student';
  readonly room: string;
  /** Empty: the page asks for it. */
  readonly name: string;
  readonly language?: 'en' | 'zh';
  readonly more?: BrowserContextOptions;
  /** Until the conversation is there; else only until the page is. */
  readonly wait?: boolean;
}

export async function enter(browser: Browser, url: string, options: EnterOptions): Promise<Person> {
  const { role, room, name, language = 'en', more = {}, wait = true } = options;
  const context = await browser.newContext({ locale: language === 'en' ? 'en-GB' : 'zh-CN', ...more });
  await context.addInitScript(
    ([key, value]) => {
      if (value !== '') sessionStorage.setItem(key, sessionStorage.getItem(key) ?? value);
      const real = window.WebSocket;
      const sockets: WebSocket[] = [];
      Object.assign(window, { sockets });
      window.WebSocket = class extends real {
        constructor(address: string | URL, protocols?: string | string[]) {
          super(address, protocols);
          sockets.push(this);
        }
      };
      document.addEventListener('securitypolicyviolation', (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`),
      );
    },
    ['roombridge.name', name] as const,
  );
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && !isNetworkNoise(message.text())) complaints.push(message.text());
  });
  await page.goto(`${url}/${role}.html?room=${room}`);
  const person = { name, page, context, complaints };
  if (wait) await connected(person);
  return person;
}

/** Browsers note each failed connection; the stories make connections fail. */
function isNetworkNoise(text: string): boolean {
  return /net::ERR_|WebSocket connection to|WebSocket is already in CLOSING|Failed to load resource/u.test(text);
}

export async function connected({ page }: Person): Promise<void> {
  await page.locator('[data-state="live"]').waitFor({ timeout: 30_000 });
}

export async function say({ page }: Person, text: string): Promise<void> {
  const field = page.locator('#say');
  await field.fill(text);
  await field.press('Enter');
}

/** The texts on the screen, in their order, pending ones included. */
export async function linesOf({ page }: Person): Promise<string[]> {
  return page.locator('.conversation__line:not(.conversation__line--notice) .words').allTextContents();
}

export async function sees(person: Person, text: string): Promise<void> {
  await vi.waitFor(async () => expect(await linesOf(person), `${person.name} sees it`).toContain(text), SOON);
}

export async function seesExactly(person: Person, texts: readonly string[]): Promise<void> {
  await vi.waitFor(async () => expect(await linesOf(person), `${person.name} sees each once`).toEqual(texts), SOON);
}

export async function shows(locator: Locator, state: 'visible' | 'attached' = 'visible'): Promise<void> {
  await locator.waitFor({ state, timeout: SOON.timeout });
}

/** The connection ends as if the network had cut it: no goodbye. */
export async function cut({ page }: Person): Promise<void> {
  await page.evaluate(() => (window as unknown as { sockets: WebSocket[] }).sockets.at(-1)?.close());
}

export function rowOf({ page }: Person, name: string): Locator {
  return page.locator('.person').filter({ hasText: name });
}

export async function clientId({ page }: Person): Promise<string> {
  const found = await page.evaluate(() => Object.entries(sessionStorage).find(([key]) => key.startsWith('roombridge.client.')));
  return found?.[1] ?? '';
}
