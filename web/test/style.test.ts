// The style sheets and the code name the same classes, and a class of a component tells which file it is in.

import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';

const SRC = join(import.meta.dirname, '../src');
const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' });
const read = (end: string): [string, string][] =>
  files.filter((path) => path.endsWith(end)).map((path) => [path, readFileSync(join(SRC, path), 'utf8')]);

const sheets = read('.css').map(([path, text]) => {
  const rules = text.replace(/\/\*.*?\*\/|url\(.*?\)/gsu, '');
  return { path, classes: [...new Set([...rules.matchAll(/\.([a-z][\w-]*)/gu)].map((found) => found[1] ?? ''))] };
});
const styled = new Set(sheets.flatMap((sheet) => sheet.classes));
const code = read('.ts')
  .map(([, text]) => text)
  .join('\n');

/** As it stands, or put together: `avatar--hue-${hash}`, `conversation__line--${kind}` with the word 'own' somewhere. */
function isNamed(name: string): boolean {
  const [block = '', kind = ''] = name.split('--');
  const isWord = new RegExp(`(?<![\\w-])${name}(?![\\w-])`, 'u').test(code);
  const isNumbered = /\d$/u.test(name) && code.includes(name.replace(/\d+$/u, '${'));
  return isWord || isNumbered || (code.includes(`${block}--\${`) && code.includes(`'${kind}'`));
}

describe('the style sheets', () => {
  it.each(sheets.filter(({ path }) => !path.startsWith('style/')))('$path has the classes of its component only', ({ path, classes }) => {
    const block = basename(path, '.css').replaceAll('_', '-');
    expect(classes.filter((name) => name !== block && !name.startsWith(`${block}__`) && !name.startsWith(`${block}--`))).toEqual([]);
  });

  it('have no class that the code does not name', () => {
    expect(styled.size).toBeGreaterThan(50);
    expect([...styled].filter((name) => !isNamed(name))).toEqual([]);
  });

  it('have a rule for each class that the code names', () => {
    const named = [...code.matchAll(/class: '([^']+)'/gu)].flatMap((found) => found[1]?.split(' ') ?? []);
    expect(named.length).toBeGreaterThan(50);
    expect(named.filter((name) => !styled.has(name))).toEqual([]);
  });
});
