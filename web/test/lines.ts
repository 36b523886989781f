// Lines for the tests, as short as they can be said.

import type { Line } from '../src/talk/wire';

export function line(id: string | null, timeMs = 0, more: Partial<Line> = {}): Line {
  return { id, sender: 'GID_student@@@a', name: null, text: `text of ${id}`, ref: null, timeMs, kind: 'message', ...more };
}

/** Ids, in order. */
export function ids(entries: readonly { readonly line: Line }[]): (string | null)[] {
  return entries.map((entry) => entry.line.id);
}
