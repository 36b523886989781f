// The start page: who one is, which room, which name.

import './style/base.css';
import './style/parts.css';
import './start.css';
import { onLanguage, startLanguage, t } from './i18n/language';
import { keepName, keptName } from './net/identity';
import { MAX_NAME_LETTERS } from './talk/text';
import { ROOM_ID } from './talk/wire';
import { button, el, newId, setText } from './ui/dom';
import { languageSwitch } from './ui/language_switch';

const ROOM = 'roombridge.room';

startLanguage();

const room = el('input', {
  id: newId(),
  attributes: { name: 'room', required: '', maxlength: '64', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false' },
});
room.value = new URLSearchParams(location.search).get('room') ?? localStorage.getItem(ROOM) ?? '';
const name = el('input', {
  id: newId(),
  attributes: { name: 'name', maxlength: String(MAX_NAME_LETTERS), autocomplete: 'nickname', dir: 'auto' },
});
name.value = keptName() ?? '';
const wrong = el('p', { class: 'wrong', id: newId(), attributes: { role: 'alert' } });
room.setAttribute('aria-describedby', wrong.id);

const form = el(
  'form',
  { class: 'start__card' },
  el('fieldset', { class: 'start__roles' }, el('legend', { t: 'startRoles' }), role('student', true), role('teacher', false)),
  field(room, 'startRoom', 'startRoomHint', wrong),
  field(name, 'startName', 'startNameHint', null),
  button({ class: 'button--main start__enter', t: 'startEnter', attributes: { type: 'submit' } }),
);
form.noValidate = true;
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const roomId = room.value.trim();
  if (!ROOM_ID.test(roomId)) {
    setText(wrong, t('startRoomWrong'));
    room.setAttribute('aria-invalid', 'true');
    room.focus();
    return;
  }
  keepName(name.value);
  localStorage.setItem(ROOM, roomId);
  const page = new FormData(form).get('role') === 'teacher' ? 'teacher.html' : 'student.html';
  location.assign(`${page}?room=${encodeURIComponent(roomId)}`);
});
room.addEventListener('input', () => {
  setText(wrong, '');
  room.removeAttribute('aria-invalid');
});

document.body.append(
  el('header', { class: 'start__corner' }, languageSwitch()),
  el(
    'main',
    { class: 'start' },
    el(
      'div',
      { class: 'start__welcome' },
      el('span', { class: 'mark mark--large', attributes: { 'aria-hidden': 'true' } }),
      el('h1', { t: 'startTitle' }),
      el('p', { class: 'start__lead', t: 'startLead' }),
    ),
    form,
    el('p', { class: 'start__about', t: 'startAbout' }),
  ),
);
onLanguage(() => {
  document.title = `${t('startTitle')} – ${t('product')}`;
});

function role(which: 'student' | 'teacher', checked: boolean): HTMLElement {
  const input = el('input', { attributes: { type: 'radio', name: 'role', value: which } });
  input.checked = checked;
  const student = which === 'student';
  return el(
    'label',
    { class: 'choice' },
    input,
    el(
      'span',
      { class: 'start__role' },
      el('strong', { t: student ? 'startStudent' : 'startTeacher' }),
      el('small', { t: student ? 'startStudentHint' : 'startTeacherHint' }),
    ),
  );
}

function field(
  input: HTMLInputElement,
  label: 'startRoom' | 'startName',
  hint: 'startRoomHint' | 'startNameHint',
  below: HTMLElement | null,
): HTMLElement {
  return el(
    'div',
    { class: 'start__field' },
    el('label', { attributes: { for: input.id } }, el('span', { t: label }), el('small', { t: hint })),
    input,
    below,
  );
}
