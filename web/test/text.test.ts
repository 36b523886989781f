import { describe, expect, it } from 'vitest';
import { deviceName, MAX_NAME_LETTERS, MAX_SHOWN_LETTERS, shownName, shownText } from '../src/talk/text';

describe('a text', () => {
  it('stays what it is if it is harmless', () => {
    for (const text of [
      'hello',
      '你好，老师',
      'a\nb',
      'שלום עולם',
      '👩‍👩‍👧 👋🏽',
      'é ñ ü',
      '<script>alert(1)</script>',
      '1 < 2 && 3 > 2',
    ]) {
      expect(shownText(text)).toBe(text);
    }
  });

  it('loses control characters and what turns the reading direction', () => {
    expect(shownText('a\u0000b\u001b[31mc\u0007\u0085d')).toBe('ab[31mcd');
    expect(shownText('user\u202Egnp.exe\u202C\u2066x\u2069')).toBe('usergnp.exex');
  });

  it('keeps its lines, but not a wall of empty ones', () => {
    expect(shownText('a\r\nb\rc\u2028d')).toBe('a\nb\nc\nd');
    expect(shownText(`a${'\n'.repeat(500)}b`)).toBe('a\n\nb');
  });

  it('is cut if it is long or high, with a sign that it is', () => {
    expect(shownText('x'.repeat(100_000)).length).toBe(MAX_SHOWN_LETTERS + 2);
    expect(shownText('x\n'.repeat(5000)).split('\n')).toHaveLength(40);
    expect(shownText('x'.repeat(100_000)).endsWith('…')).toBe(true);
  });

  it('is not cut within a letter', () => {
    expect(shownText('😀'.repeat(5000))).not.toMatch(/\p{Surrogate}/u);
  });

  it('has no towers of marks and no half letters', () => {
    expect(shownText(`e${'\u0301'.repeat(50)}`).length).toBe(5);
    expect(shownText('a\uD800b')).toBe('a\uFFFDb');
  });
});

describe('a name', () => {
  it('is one row', () => {
    expect(shownName('  Li\n\tLei  ')).toBe('Li Lei');
  });

  it('is not taken for another by invisible letters', () => {
    expect(shownName('Te\u200Bach\u2060er\uFEFF')).toBe('Teacher');
  });

  it('is none if nothing can be read of it', () => {
    for (const name of [null, undefined, '', ' ', '\u200B', '\u202E', '\u3164', '\u0301']) expect(shownName(name)).toBeNull();
  });

  it('is bounded', () => {
    expect(Array.from(shownName('名'.repeat(500)) ?? '')).toHaveLength(MAX_NAME_LETTERS);
  });

  it('is the device where none was given', () => {
    expect(deviceName('GID_student@@@001')).toBe('001');
    expect(deviceName('plain')).toBe('plain');
    expect(deviceName('GID_student@@@')).toBe('?');
  });
});
