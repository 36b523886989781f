// A round sign that stands for a person.

import { el } from './dom';
import './avatar.css';

const HUES = 8;

/** With the first letter of the name. The colour comes from the client id, so a borrowed name has another one. */
export function avatar(name: string, seed: string, away = false): HTMLElement {
  let hash = 0;
  for (const letter of seed) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  const first = (Array.from(name)[0] ?? '?').toLocaleUpperCase();
  const classes = `avatar avatar--hue-${hash % HUES}${away ? ' avatar--away' : ''}`;
  return el('span', { class: classes, text: first, attributes: { 'aria-hidden': 'true' } });
}
