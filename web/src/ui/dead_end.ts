// Instead of a room, a word why there is none.

import { onLanguage, t } from '../i18n/language';
import { el } from './dom';
import { languageSwitch } from './language_switch';
import './dead_end.css';

export function showDeadEnd(): void {
  document.body.classList.add('dead-end');
  document.body.append(
    el('header', {}, languageSwitch()),
    el('main', { class: 'dead-end__word' }, el('p', { t: 'noRoom' }), el('a', { t: 'noRoomLink', attributes: { href: './' } })),
  );
  onLanguage(() => {
    document.title = t('startTitle');
  });
}
