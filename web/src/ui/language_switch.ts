// The button that changes the language; it is named in the language that it leads to.

import { switchLanguage } from '../i18n/language';
import { button } from './dom';

export function languageSwitch(): HTMLButtonElement {
  return button({ class: 'button--quiet', t: 'otherLanguage', tLabel: 'switchLanguage', onClick: switchLanguage });
}
