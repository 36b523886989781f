// Says to a screen reader what is new. It promises: never the history, never the reader's own lines, and in a lively class a
// number instead of a stream.

import { t, tCount } from '../i18n/language';
import { el } from './dom';
import './announcer.css';

const GATHER_MS = 1000;
const MOST_AT_ONCE = 3;
const MAX_LETTERS = 240;

export class Announcer {
  readonly element: HTMLElement;
  private readonly polite = el('div', { attributes: { 'aria-live': 'polite' } });
  private readonly urgent = el('div', { attributes: { 'aria-live': 'assertive' } });
  private gathered: string[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    this.element = el('div', { class: 'unseen', id: 'announcer' }, this.polite, this.urgent);
  }

  line(name: string, text: string): void {
    this.gathered.push(t('announceLine', { name, text: text.slice(0, MAX_LETTERS) }));
    this.timer ??= setTimeout(() => this.say(), GATHER_MS);
  }

  urgently(text: string): void {
    this.urgent.replaceChildren(el('p', { text: text.slice(0, MAX_LETTERS) }));
  }

  private say(): void {
    this.timer = undefined;
    const lines = this.gathered.length > MOST_AT_ONCE ? [tCount('newLines', this.gathered.length)] : this.gathered;
    this.gathered = [];
    this.polite.replaceChildren(...lines.map((text) => el('p', { text })));
  }
}

/** A short word at the edge of the page, which goes by itself. */
export class Toasts {
  readonly element = el('div', { class: 'announcer__toasts', attributes: { role: 'status' } });

  say(text: string): void {
    const toast = el('p', { class: 'announcer__toast appears', text });
    this.element.append(toast);
    while (this.element.childElementCount > 3) this.element.firstElementChild?.remove();
    setTimeout(() => toast.remove(), 6000);
  }
}
