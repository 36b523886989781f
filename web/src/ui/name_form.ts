// How the reader is called: asked for once, changed at will.

import { onLanguage, t } from '../i18n/language';
import { keepName, keptName, nameWasGiven } from '../net/identity';
import { MAX_NAME_LETTERS } from '../talk/text';
import { button, el, newId, setText, show } from './dom';
import './name_form.css';

export class NameForm {
  /** In the header. */
  readonly opener: HTMLButtonElement;
  readonly element: HTMLFormElement;
  private readonly field: HTMLInputElement;
  private name = keptName();

  private wasAsked = !nameWasGiven();

  /** `answered`: the name that was asked for is given, and the reader goes on. */
  constructor(
    private readonly changed: (name: string | null) => void,
    private readonly answered: () => void,
  ) {
    const id = newId();
    this.field = el('input', {
      id,
      attributes: { name: 'name', maxlength: String(MAX_NAME_LETTERS), autocomplete: 'nickname', dir: 'auto' },
    });
    this.field.value = this.name ?? '';
    this.opener = button({ class: 'button--quiet name-form__opener', onClick: () => this.open() });
    this.element = el(
      'form',
      { class: 'name-form' },
      el('label', { t: 'nameAsk', attributes: { for: id } }),
      el('div', { class: 'field-row' }, this.field, button({ class: 'button--main', t: 'nameSave', attributes: { type: 'submit' } })),
    );
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.save();
    });
    show(this.element, this.wasAsked);
    onLanguage(() => this.draw());
  }

  current(): string | null {
    return this.name;
  }

  private open(): void {
    const opening = this.element.hidden !== false;
    show(this.element, opening);
    if (opening) this.field.select();
  }

  private save(): void {
    this.name = keepName(this.field.value);
    this.field.value = this.name ?? '';
    show(this.element, false);
    this.draw();
    this.changed(this.name);
    if (this.wasAsked) this.answered();
    else this.opener.focus();
    this.wasAsked = false;
  }

  private draw(): void {
    setText(this.opener, this.name ?? t('nameNone'));
    this.opener.setAttribute('aria-label', `${this.name ?? t('nameNone')} – ${t('nameChange')}`);
  }
}
