// The two questions that stop everything else: how to mute, and the login secret. Escape and the dark around them are a no.

import type { Key } from '../i18n/language';
import { t } from '../i18n/language';
import { button, el, newId } from './dom';
import './dialogs.css';

export interface MuteChoice {
  readonly everywhere: boolean;
  readonly seconds: number | null;
}

const LENGTHS: readonly { readonly key: Key; readonly seconds: number | null }[] = [
  { key: 'mute_60', seconds: 60 },
  { key: 'mute_300', seconds: 300 },
  { key: 'mute_1800', seconds: 1800 },
  { key: 'mute_0', seconds: null },
];

export async function askHowToMute(name: string): Promise<MuteChoice | null> {
  const form = new FormData();
  const lengths = choices(
    'seconds',
    'muteHowLong',
    LENGTHS.map((one) => ({ key: one.key, value: String(one.seconds ?? 0) })),
    '300',
  );
  const places = choices(
    'where',
    'muteWhere',
    [
      { key: 'muteHere', value: 'here' },
      { key: 'muteEverywhere', value: 'everywhere' },
    ],
    'here',
  );
  const content = [el('p', { text: t('muteLead') }), lengths, places];
  const said = await ask({ title: t('muteTitle', { name }), content, yes: 'mute', into: form });
  if (!said) return null;
  const seconds = Number(form.get('seconds'));
  return { everywhere: form.get('where') === 'everywhere', seconds: seconds > 0 ? seconds : null };
}

export async function askForSecret(wasWrong: boolean): Promise<string | null> {
  const form = new FormData();
  const id = newId();
  const content = [
    el('p', { text: t('secretLead') }),
    wasWrong ? el('p', { class: 'wrong', text: t('secretWrong'), attributes: { role: 'alert' } }) : el('span'),
    el('label', { text: t('secretLabel'), attributes: { for: id } }),
    el('input', { id, attributes: { type: 'password', name: 'secret', required: '', autocomplete: 'current-password' } }),
  ];
  const said = await ask({ title: t('secretTitle'), content, yes: 'secretEnter', into: form });
  const secret = form.get('secret');
  return said && typeof secret === 'string' && secret !== '' ? secret : null;
}

interface Question {
  readonly title: string;
  readonly content: readonly HTMLElement[];
  readonly yes: Key;
  /** Takes the form's values at a yes. */
  readonly into: FormData;
}

async function ask(question: Question): Promise<boolean> {
  const titleId = newId();
  const no = button({ class: 'button--quiet', text: t('cancel') });
  const yes = button({ class: 'button--main', text: t(question.yes), attributes: { type: 'submit' } });
  const form = el(
    'form',
    { class: 'dialogs__form', attributes: { method: 'dialog' } },
    el('h2', { class: 'dialogs__title', id: titleId, text: question.title }),
    ...question.content,
    el('p', { class: 'dialogs__answers' }, no, yes),
  );
  const dialog = el('dialog', { class: 'dialogs', attributes: { 'aria-labelledby': titleId } }, form);
  document.body.append(dialog);
  const before = document.activeElement;
  return new Promise((resolve) => {
    let said = false;
    no.addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close();
    });
    form.addEventListener('submit', () => {
      said = true;
      for (const [name, value] of new FormData(form)) question.into.set(name, value);
    });
    dialog.addEventListener('close', () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(said);
    });
    dialog.showModal();
  });
}

function choices(
  name: string,
  legend: Key,
  options: readonly { readonly key: Key; readonly value: string }[],
  chosen: string,
): HTMLElement {
  const one = ({ key, value }: { readonly key: Key; readonly value: string }): HTMLElement => {
    const input = el('input', { attributes: { type: 'radio', name, value } });
    input.checked = value === chosen;
    return el('label', { class: 'choice' }, input, el('span', { text: t(key) }));
  };
  return el(
    'fieldset',
    {},
    el('legend', { class: 'dialogs__legend', text: t(legend) }),
    el('div', { class: 'dialogs__choices' }, ...options.map(one)),
  );
}
