// The state of the connection, in words, with what the reader can do about it.

import { onLanguage, t } from '../i18n/language';
import type { State } from '../net/session_parts';
import { button, el, setText, show } from './dom';
import './status.css';

export interface StatusOptions {
  readonly tryNow: () => void;
  readonly useHere: () => void;
  /** Null for students, who have no secret. */
  readonly enterSecret: (() => void) | null;
}

export class Status {
  readonly element: HTMLElement;
  /** Under the header, only while the connection is not there. */
  readonly bar: HTMLElement;
  private readonly text = el('span');
  private readonly barText = el('span');
  private readonly tryNow: HTMLButtonElement;
  private readonly useHere: HTMLButtonElement;
  private readonly enterSecret: HTMLButtonElement;
  private state: State = { is: 'connecting' };

  constructor(private readonly options: StatusOptions) {
    const dot = el('span', { class: 'status__dot', attributes: { 'aria-hidden': 'true' } });
    this.element = el('p', { class: 'status', attributes: { role: 'status' } }, dot, this.text);
    this.tryNow = button({ class: 'button--quiet', t: 'tryNow', onClick: options.tryNow });
    this.useHere = button({ class: 'button--quiet', t: 'useHere', onClick: options.useHere });
    this.enterSecret = button({ class: 'button--quiet', t: 'secretButton', onClick: () => options.enterSecret?.() });
    this.bar = el('div', { class: 'strip' }, this.barText, this.tryNow, this.useHere, this.enterSecret);
    onLanguage(() => this.draw());
    setInterval(() => this.draw(), 1000);
  }

  set(state: State): void {
    this.state = state;
    this.draw();
  }

  private draw(): void {
    const { state } = this;
    this.element.dataset['state'] = state.is;
    setText(this.text, t(state.is === 'waiting' ? 'lost' : `state_${state.is}`));
    const teacher = this.options.enterSecret !== null;
    show(this.bar, state.is === 'waiting' || state.is === 'replaced' || state.is === 'secret');
    show(this.enterSecret, state.is === 'secret' && teacher);
    show(this.tryNow, state.is === 'waiting');
    show(this.useHere, state.is === 'replaced');
    if (state.is === 'replaced') setText(this.barText, t('replaced'));
    if (state.is === 'secret') setText(this.barText, t(teacher ? 'secretLead' : 'secretStudent'));
    if (state.is !== 'waiting') return;
    const count = Math.max(0, Math.ceil((state.atMs - Date.now()) / 1000));
    setText(this.barText, t(state.why === 'lost' ? 'state_waiting' : `state_${state.why}`, { count }));
  }
}
