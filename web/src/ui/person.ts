// What the rows of both lists in the side panel have in common.

import { el, foreign } from './dom';
import './person.css';

/** The name, and under it `about`. */
export function personText(name: string, clientId: string, about: HTMLElement): HTMLElement {
  const who = el('span', { class: 'person__name' }, foreign(name));
  who.title = clientId;
  return el('span', { class: 'person__text' }, who, about);
}
