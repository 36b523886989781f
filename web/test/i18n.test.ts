import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en';
import { choose, pluralKey, translate } from '../src/i18n/language';
import { zh } from '../src/i18n/zh';

const blanks = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/gu)].map((found) => found[1] ?? '').sort();

describe('the two languages', () => {
  it('have the same keys, in the same order', () => {
    expect(Object.keys(zh)).toEqual(Object.keys(en));
    expect(Object.keys(en).length).toBeGreaterThan(100);
  });

  it('say something, with the same blanks', () => {
    for (const [key, text] of Object.entries(en)) {
      const other = zh[key as keyof typeof en];
      expect(other.trim(), key).not.toBe('');
      expect(blanks(other), key).toEqual(blanks(text));
    }
  });

  it('have both forms of each count', () => {
    for (const key of Object.keys(en).filter((one) => one.endsWith('_one'))) {
      expect(en).toHaveProperty(key.replace(/_one$/u, '_other'));
    }
  });
});

describe('the language', () => {
  it('is the one chosen before, else the first of the browser’s that there is', () => {
    expect(choose('zh', ['en'])).toBe('zh');
    expect(choose(null, ['fr', 'zh-Hant-TW', 'en'])).toBe('zh');
    expect(choose(null, ['en-US', 'zh'])).toBe('en');
    expect(choose('klingon', ['de'])).toBe('en');
    expect(choose(null, [])).toBe('en');
  });

  it('fills blanks once, and only its own', () => {
    expect(translate('en', 'announceLine', { name: '{text}', text: 'x' })).toBe('{text}: x');
    expect(translate('en', 'announceLine', {})).toBe('{name}: {text}');
    expect(translate('en', pluralKey('en', 'newLines', 1), { count: 1 })).toBe('1 new line');
    expect(translate('en', pluralKey('en', 'newLines', 2), { count: 2 })).toBe('2 new lines');
    expect(translate('zh', pluralKey('zh', 'newLines', 1), { count: 1 })).toBe('1 条新发言');
  });
});
