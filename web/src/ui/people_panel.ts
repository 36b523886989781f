// Who is in the class. A teacher mutes here; students only look.

import { languageTag, onLanguage, t, tCount } from '../i18n/language';
import type { Member, People } from '../talk/people';
import { inOrder } from '../talk/people';
import { clockTime } from '../talk/time';
import { avatar } from './avatar';
import { button, el, newId, setText, show } from './dom';
import type { Item } from './keyed_list';
import { KeyedList } from './keyed_list';
import { personText } from './person';

/** From so many on there is a field to look for a name. */
const FILTER_FROM = 10;
/** More rows than this help nobody; the field finds the others. */
const MAX_ROWS = 300;

export interface PeopleOptions {
  readonly ownId: string;
  readonly people: People;
  readonly serverNowMs: () => number;
  /** Null for students. */
  readonly moderate: { readonly mute: (member: Member) => void; readonly unmute: (member: Member) => void } | null;
}

export class PeoplePanel {
  readonly element: HTMLElement;
  private readonly list = new KeyedList(el('ul', { class: 'person__list' }));
  private readonly more = el('p', { class: 'hint' });
  private readonly filter: HTMLInputElement;
  private readonly filterRow: HTMLElement;
  private members: readonly Member[] = [];
  private failed = false;

  constructor(private readonly options: PeopleOptions) {
    const id = newId();
    this.filter = el('input', { id, tPlaceholder: 'peopleFilter', attributes: { type: 'search', autocomplete: 'off' } });
    this.filterRow = el('div', {}, el('label', { class: 'unseen', t: 'peopleFilter', attributes: { for: id } }), this.filter);
    this.filter.addEventListener('input', () => this.draw());
    this.element = el('section', { class: 'panel' }, el('h2', { t: 'people' }), this.filterRow, this.list.element, this.more);
    onLanguage(() => this.draw());
  }

  update(members: readonly Member[]): void {
    this.members = members;
    this.failed = false;
    this.draw();
  }

  /** The list on the screen may be old. */
  fail(): void {
    this.failed = true;
    this.draw();
  }

  private draw(): void {
    const wanted = this.filter.value.trim().toLocaleLowerCase();
    const ordered = inOrder(this.members, languageTag());
    const found = wanted === '' ? ordered : ordered.filter((one) => this.name(one).toLocaleLowerCase().includes(wanted));
    const shown = found.slice(0, MAX_ROWS);
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset['member'] : undefined;
    this.list.show(shown.map((one) => this.item(one)));
    // The row may be a new one; whoever steers by keyboard must not fall out of the list for that.
    if (focused) this.list.element.querySelector<HTMLElement>(`[data-member="${CSS.escape(focused)}"]`)?.focus();
    show(this.filterRow, this.members.length >= FILTER_FROM);
    setText(this.more, this.remark(found.length - shown.length));
  }

  private remark(left: number): string {
    if (this.failed) return t('peopleFailed');
    if (left > 0) return tCount('peopleMore', left);
    return this.members.length === 0 ? t('peopleEmpty') : '';
  }

  private name(member: Member): string {
    return this.options.people.name(member.clientId, member.name);
  }

  private item(member: Member): Item {
    const name = this.name(member);
    const muted = isMuted(member, this.options.serverNowMs());
    const signature = [name, member.role, member.online, member.sinceMs, muted, languageTag()].join('\n');
    return { key: member.clientId, signature, make: () => this.row(member, name, muted) };
  }

  private row(member: Member, name: string, muted: boolean): HTMLElement {
    const { ownId, moderate } = this.options;
    const teacher = member.role === 'teacher';
    const self = member.clientId === ownId;
    const presence = presenceOf(member);
    const about = el('span', { class: 'person__about', text: teacher ? `${t('teacher')} · ${presence}` : presence });
    return el(
      'li',
      { class: member.online ? 'person' : 'person person--away' },
      avatar(name, member.clientId, !member.online),
      personText(self ? `${name} (${t('you')})` : name, member.clientId, about),
      muted ? el('span', { class: 'person__tag', text: t('mutedTag') }) : null,
      moderate && !teacher && !self ? this.action(member, name, muted) : null,
    );
  }

  private action(member: Member, name: string, muted: boolean): HTMLElement {
    const { moderate } = this.options;
    return button({
      class: 'button--quiet',
      text: t(muted ? 'unmute' : 'mute'),
      attributes: { 'data-member': member.clientId, 'aria-label': t(muted ? 'unmuteOf' : 'muteOf', { name }) },
      onClick: () => (muted ? moderate?.unmute(member) : moderate?.mute(member)),
    });
  }
}

function presenceOf({ online, sinceMs }: Member): string {
  if (online) return t('isHere');
  return sinceMs === null ? t('away') : t('leftAt', { time: clockTime(sinceMs, languageTag()) });
}

/** As of now: the list may be older than the mute's end. */
export function isMuted(member: Member, nowMs: number): boolean {
  return member.muted && (member.mutedUntilMs === null || member.mutedUntilMs > nowMs);
}
