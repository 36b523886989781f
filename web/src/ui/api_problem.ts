// What the server refused, in the reader's language.

import type { Key } from '../i18n/en';
import { en } from '../i18n/en';
import { t } from '../i18n/language';
import type { ApiError } from '../net/api';

/** In the chosen language if the server named a code that these pages know, else the server's own words. */
export function wordsOf(error: ApiError): string {
  const key = `problem_${error.code}`;
  return isKey(key) ? t(key) : error.detail;
}

function isKey(key: string): key is Key {
  return Object.hasOwn(en, key);
}
