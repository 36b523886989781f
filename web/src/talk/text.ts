// Makes text of strangers fit to be shown. It promises: what comes out has no control characters, cannot turn the reading
// direction of what stands around it, and is bounded. It never makes HTML: who shows text uses textContent.

/** What a line may hold on the screen. Longer ones are cut, with a sign that they are. */
export const MAX_SHOWN_LETTERS = 4000;
export const MAX_SHOWN_ROWS = 40;
export const MAX_NAME_LETTERS = 64;

/** C0 and C1, without tab and line feed. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: to find them is its purpose.
const CONTROLS = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/gu;
/** Embeddings, overrides and isolates of the reading direction, and the marks that only steer it. */
const DIRECTIONS = /[\u202A-\u202E\u2066-\u2069\u200E\u200F\u061C]/gu;
/** Invisible letters that make two different names look the same. The joiners of emoji and Persian (200C, 200D) stay. */
const INVISIBLE =
  // biome-ignore lint/suspicious/noMisleadingCharacterClass: each letter is meant alone.
  /[\u00AD\u034F\u115F\u1160\u17B4\u17B5\u180E\u200B\u2028\u2029\u2060-\u2065\u206A-\u206F\u3164\uFEFF\uFFA0\uFFF0-\uFFFB]/gu;
/** Letters with many marks grow over the lines above and below. */
const TOWERS = /(\p{M}{4})\p{M}+/gu;
const LONE_SURROGATES = /\p{Surrogate}/gu;

/** The text of a line, line feeds kept. */
export function shownText(text: string): string {
  const clean = strip(text.replace(/\r\n?|[\u2028\u2029]/gu, '\n'))
    .replace(/\n{3,}/gu, '\n\n')
    .trim();
  const rows = clean.split('\n');
  const fewer = rows.length > MAX_SHOWN_ROWS ? rows.slice(0, MAX_SHOWN_ROWS).join('\n') : clean;
  const short = cut(fewer, MAX_SHOWN_LETTERS);
  return short === clean ? clean : `${short} …`;
}

/** A display name on one row; null if nothing readable is left of it. */
export function shownName(name: string | null | undefined): string | null {
  if (!name) return null;
  const clean = cut(strip(name).replace(/\s+/gu, ' ').trim(), MAX_NAME_LETTERS).trim();
  return /[\p{L}\p{N}\p{S}\p{P}]/u.test(clean) ? clean : null;
}

/** What to call a client that gave no name: the device part of its id, shortened. */
export function deviceName(clientId: string): string {
  const at = clientId.indexOf('@@@');
  const device = at < 0 ? clientId : clientId.slice(at + 3);
  return shownName(device.slice(0, 24)) ?? '?';
}

function strip(text: string): string {
  return text.replace(LONE_SURROGATES, '\uFFFD').replace(CONTROLS, '').replace(DIRECTIONS, '').replace(INVISIBLE, '').replace(TOWERS, '$1');
}

/** At most so many letters, without cutting one in two. */
function cut(text: string, letters: number): string {
  if (text.length <= letters) return text;
  return Array.from(text).slice(0, letters).join('');
}
