// Notices: for those who read one, and for the teacher who writes one.

import { languageTag, onLanguage, t } from '../i18n/language';
import { shownText } from '../talk/text';
import { clockTime } from '../talk/time';
import type { Line } from '../talk/wire';
import { button, el, newId, setText, show } from './dom';
import './notices.css';

const MAX_NOTICE_LETTERS = 1000;

/** The newest notice, above the conversation until it is hidden. */
export class NoticeBanner {
  readonly element: HTMLElement;
  private readonly text = el('p', { class: 'words', attributes: { dir: 'auto' } });
  private readonly time = el('time');
  private shown: Line | null = null;

  constructor() {
    const hide = button({ class: 'button--close', tLabel: 'noticeDismiss', text: '×', onClick: () => show(this.element, false) });
    const head = el('p', { class: 'notices__head' }, el('strong', { t: 'notice' }), this.time);
    this.element = el(
      'aside',
      { class: 'notices__banner appears', tLabel: 'notice' },
      el('div', { class: 'notices__body' }, head, this.text),
      hide,
    );
    show(this.element, false);
    onLanguage(() => this.draw());
  }

  set(notice: Line): void {
    this.shown = notice;
    show(this.element, true);
    this.draw();
  }

  private draw(): void {
    if (!this.shown) return;
    setText(this.text, shownText(this.shown.text));
    setText(this.time, clockTime(this.shown.timeMs, languageTag()));
  }
}

/** `send` says what went wrong, or null. */
export function noticeForm(send: (text: string) => Promise<string | null>): HTMLElement {
  const id = newId();
  const field = el('textarea', {
    id,
    tPlaceholder: 'noticeLabel',
    attributes: { rows: '2', maxlength: String(MAX_NOTICE_LETTERS), required: '', dir: 'auto' },
  });
  const submit = button({ class: 'button--main', t: 'noticeSend', attributes: { type: 'submit' } });
  const said = el('p', { class: 'hint notices__said', attributes: { role: 'status' } });
  const form = el(
    'form',
    { class: 'panel' },
    el('h2', { t: 'noticeTitle' }),
    el('label', { class: 'unseen', t: 'noticeLabel', attributes: { for: id } }),
    field,
    el('div', { class: 'notices__row' }, said, submit),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text === '') return;
    submit.disabled = true;
    setText(said, '');
    void send(text).then((wrong) => {
      submit.disabled = false;
      if (wrong === null) field.value = '';
      setText(said, wrong === null ? t('noticeDone') : t('noticeFailed', { detail: wrong }));
    });
  });
  return form;
}
