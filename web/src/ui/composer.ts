// The text field. It promises: Enter sends and Shift+Enter does not, a word that is still being composed is left alone, and
// what was typed is never lost to a mute or a full queue.

import { onLanguage, t, tCount } from '../i18n/language';
import type { Muted } from '../talk/mutes';
import { MAX_WAITING } from '../talk/outbox';
import { timeLeft } from '../talk/time';
import { button, el, newId, setText, show } from './dom';
import './composer.css';

export const MAX_LETTERS = 1000;

export interface ComposerOptions {
  /** False: too many lines wait already. */
  readonly say: (text: string) => boolean;
  readonly muted: () => Muted | null;
  readonly serverNowMs: () => number;
  readonly connected: () => boolean;
  readonly waiting: () => number;
  /** The mute has ended by itself. */
  readonly free: () => void;
}

export class Composer {
  readonly element: HTMLFormElement;
  private readonly field: HTMLTextAreaElement;
  private readonly send = button({ class: 'button--main', t: 'say', attributes: { type: 'submit' } });
  private readonly note: HTMLElement;
  private wasMuted = false;
  private complaint = '';

  constructor(private readonly options: ComposerOptions) {
    const noteId = newId();
    this.note = el('p', { class: 'composer__note', id: noteId });
    this.field = el('textarea', {
      class: 'composer__field',
      id: 'say',
      tPlaceholder: 'sayPlaceholder',
      attributes: { rows: '1', maxlength: String(MAX_LETTERS), 'aria-describedby': noteId, dir: 'auto', enterkeyhint: 'send' },
    });
    const label = el('label', { class: 'unseen', t: 'sayLabel', attributes: { for: 'say' } });
    this.element = el('form', { class: 'composer' }, this.note, el('div', { class: 'field-row' }, label, this.field, this.send));
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.field.addEventListener('keydown', (event) => this.pressed(event));
    this.field.addEventListener('input', () => {
      this.complaint = '';
      this.fit();
      this.draw();
    });
    onLanguage(() => this.draw());
    setInterval(() => this.draw(), 500);
  }

  draw(): void {
    const muted = this.options.muted();
    if (this.wasMuted && !muted) this.options.free();
    this.wasMuted = muted !== null;
    this.field.disabled = muted !== null;
    this.send.disabled = muted !== null;
    this.element.classList.toggle('composer--muted', muted !== null);
    const note = muted ? this.mutedNote(muted) : this.complaint || this.offlineNote();
    setText(this.note, note);
    show(this.note, note !== '');
  }

  private pressed(event: KeyboardEvent): void {
    // 229: some browsers report the Enter that only chooses a Chinese word so.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.submit();
  }

  private submit(): void {
    const text = this.field.value.trim();
    if (text === '' || this.options.muted()) return;
    if (Array.from(text).length > MAX_LETTERS) {
      this.complaint = t('sayTooLong', { count: MAX_LETTERS });
    } else if (this.options.say(text)) {
      this.field.value = '';
      this.complaint = '';
      this.fit();
    } else {
      this.complaint = t('sayTooMany', { count: MAX_WAITING });
    }
    this.draw();
    this.focus();
  }

  focus(): void {
    this.field.focus();
  }

  /** As high as its text, up to a few rows, where the style sheet cannot say so alone. */
  private fit(): void {
    if (CSS.supports('field-sizing', 'content')) return;
    this.field.rows = Math.min(5, this.field.value.split('\n').length);
  }

  private mutedNote(muted: Muted): string {
    if (muted.untilMs === null) return t('mutedUntilLifted');
    const left = timeLeft(muted.untilMs, this.options.serverNowMs());
    return left.days > 0 ? tCount('mutedForDays', left.days) : t('mutedFor', { time: left.clock });
  }

  private offlineNote(): string {
    if (this.options.connected()) return '';
    const waiting = this.options.waiting();
    return waiting > 0 ? tCount('sayWaiting', waiting) : t('sayOffline');
  }
}
