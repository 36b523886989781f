// The language of the pages: the one that was chosen here before, else the browser's. It promises: a change reaches all that
// is on the screen, without a reload.

import type { Key, Plural } from './en';
import { en } from './en';
import { zh } from './zh';

export type { Key, Plural };
export type Language = 'en' | 'zh';
export type Values = Readonly<Record<string, string | number>>;

const TEXTS: Readonly<Record<Language, Readonly<Record<Key, string>>>> = { en, zh };
const TAGS: Readonly<Record<Language, string>> = { en: 'en-GB', zh: 'zh-CN' };
const STORED = 'roombridge.language';

/** The first of the browser's languages that the pages speak. */
export function choose(stored: string | null, wanted: readonly string[]): Language {
  if (stored === 'en' || stored === 'zh') return stored;
  for (const tag of wanted) {
    const primary = tag.toLowerCase().split('-')[0];
    if (primary === 'en' || primary === 'zh') return primary;
  }
  return 'en';
}

export function translate(language: Language, key: Key, values: Values = {}): string {
  return TEXTS[language][key].replace(/\{(\w+)\}/gu, (whole, name: string) => (Object.hasOwn(values, name) ? String(values[name]) : whole));
}

export function pluralKey(language: Language, stem: Plural, count: number): Key {
  const one = new Intl.PluralRules(TAGS[language]).select(count) === 'one';
  return `${stem}_${one ? 'one' : 'other'}`;
}

let current: Language = 'en';
const listeners = new Set<() => void>();

export function startLanguage(): void {
  set(choose(localStorage.getItem(STORED), navigator.languages));
}

export function switchLanguage(): void {
  const next = current === 'en' ? 'zh' : 'en';
  localStorage.setItem(STORED, next);
  set(next);
}

/** Calls back now, and at each change. */
export function onLanguage(run: () => void): void {
  listeners.add(run);
  run();
}

/** For dates, numbers and sorting. */
export function languageTag(): string {
  return TAGS[current];
}

export function t(key: Key, values: Values = {}): string {
  return translate(current, key, values);
}

export function tCount(stem: Plural, count: number): string {
  return t(pluralKey(current, stem, count), { count });
}

function set(language: Language): void {
  current = language;
  document.documentElement.lang = TAGS[language];
  for (const run of listeners) run();
}
