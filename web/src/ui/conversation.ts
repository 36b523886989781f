// Shows the conversation: the room's lines, under them the reader's own that are not back yet. It promises: the reader's place
// stays where it is unless they are at the end, and a screen reader hears new lines but not the history.

import { languageTag, onLanguage, t, tCount } from '../i18n/language';
import type { Outgoing } from '../talk/outbox';
import type { People } from '../talk/people';
import { shownText } from '../talk/text';
import { clockTime, dayName, dayOf } from '../talk/time';
import type { Entry } from '../talk/timeline';
import { refKey } from '../talk/timeline';
import { avatar } from './avatar';
import { button, el, foreign, setText, show } from './dom';
import type { Item } from './keyed_list';
import { KeyedList } from './keyed_list';
import './conversation.css';

/** Lines of one sender within this time stand under one name. */
const TOGETHER_MS = 3 * 60_000;
const AT_END_PX = 60;

export interface Shown {
  readonly entries: readonly Entry[];
  readonly own: readonly Outgoing[];
  readonly hasOlder: boolean;
  readonly caughtUpOnce: boolean;
  /** Lines may be missing, and nobody knows which. */
  readonly incomplete: boolean;
}

export interface ConversationOptions {
  readonly ownId: string;
  readonly people: People;
  readonly read: () => Shown;
  readonly sayAgain: (ref: string) => void;
  readonly discard: (ref: string) => void;
  /** A teacher may click on a student's name. */
  readonly pickSender: ((clientId: string) => void) | null;
}

export class Conversation {
  readonly element: HTMLElement;
  private readonly list = new KeyedList(el('ol'));
  private readonly scroller: HTMLElement;
  private readonly hint = el('p', { class: 'hint conversation__hint' });
  private readonly jump = button({ class: 'conversation__jump', onClick: () => this.toEnd() });
  private planned = false;
  private atEnd = true;
  private unseen = 0;
  /** The last line that was there when the reader was at the end. */
  private lastSeen: string | null = null;

  constructor(private readonly options: ConversationOptions) {
    this.scroller = el(
      'div',
      { class: 'conversation__scroller', tLabel: 'conversation', attributes: { role: 'log', 'aria-live': 'off', tabindex: '0' } },
      this.hint,
      this.list.element,
    );
    this.element = el('div', { class: 'conversation' }, this.scroller, this.jump);
    show(this.jump, false);
    this.scroller.addEventListener('scroll', () => this.scrolled(), { passive: true });
    new ResizeObserver(() => {
      if (this.atEnd) this.toEnd();
    }).observe(this.scroller);
    onLanguage(() => this.plan());
  }

  /** Draws soon, once for all that changed. A hidden page gets no animation frames, but its title and counts still matter. */
  plan(): void {
    if (this.planned) return;
    this.planned = true;
    const draw = (): void => {
      this.planned = false;
      this.draw();
    };
    if (document.hidden) setTimeout(draw, 250);
    else requestAnimationFrame(draw);
  }

  toEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.scrolled();
  }

  private scrolled(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.atEnd = scrollHeight - scrollTop - clientHeight < AT_END_PX;
    if (this.atEnd) this.count(this.options.read().entries);
    this.drawJump();
  }

  /** What stands below the last line seen, whether it came live or from the history. */
  private count(entries: readonly Entry[]): void {
    if (this.atEnd) this.lastSeen = entries.at(-1)?.key ?? null;
    const seen = entries.findLastIndex((entry) => entry.key === this.lastSeen);
    this.unseen = this.lastSeen === null ? 0 : entries.length - 1 - seen;
  }

  private drawJump(): void {
    show(this.jump, this.unseen > 0);
    setText(this.jump, tCount('newLines', this.unseen));
  }

  private draw(): void {
    const shown = this.options.read();
    const items = this.items(shown);
    setText(this.hint, hint(items.length > 0, shown));
    this.hint.classList.toggle('conversation__hint--alone', items.length === 0);

    const wasAtEnd = this.atEnd;
    const held = wasAtEnd ? null : this.firstInView();
    this.list.show(items);
    this.count(shown.entries);
    if (wasAtEnd) this.toEnd();
    else if (held?.node.isConnected) this.scroller.scrollTop += held.node.getBoundingClientRect().top - held.top;
    this.drawJump();
  }

  private firstInView(): { node: Element; top: number } | null {
    const edge = this.scroller.getBoundingClientRect().top;
    for (const node of this.list.element.children) {
      const box = node.getBoundingClientRect();
      if (box.bottom > edge) return { node, top: box.top };
    }
    return null;
  }

  private items(shown: Shown): Item[] {
    const items: Item[] = [];
    const now = Date.now();
    let day = dayOf(now);
    let last: Entry | null = null;
    for (const entry of shown.entries) {
      const { line } = entry;
      if (dayOf(line.timeMs) !== day) {
        day = dayOf(line.timeMs);
        items.push(this.dayItem(line.timeMs, day));
      }
      if (entry.gapBefore) items.push(gapItem(entry.key));
      const together =
        last !== null &&
        !entry.gapBefore &&
        last.line.kind === line.kind &&
        last.line.sender === line.sender &&
        line.timeMs - last.line.timeMs < TOGETHER_MS &&
        dayOf(last.line.timeMs) === day;
      items.push(line.kind === 'notice' ? this.noticeItem(entry) : this.lineItem(entry, together));
      last = entry;
    }
    for (const line of shown.own) items.push(this.ownItem(line));
    return items;
  }

  private lineItem(entry: Entry, together: boolean): Item {
    const { line, key } = entry;
    const { people, ownId } = this.options;
    const own = line.sender === ownId;
    const name = own ? t('you') : people.name(line.sender, line.name);
    const teacher = people.isTeacher(line.sender);
    return {
      key,
      signature: ['back', together, own, name, teacher, languageTag()].join('\n'),
      make: () => {
        const row = el('li', { class: lineClass(own && 'own', teacher && 'by-teacher', together && 'together') });
        if (!together && !own) row.append(avatar(name, line.sender ?? name));
        const body = el('div', { class: 'conversation__body' });
        body.append(this.head(line.sender, name, teacher, own, line.timeMs));
        body.append(el('p', { class: 'words conversation__text', text: shownText(line.text), attributes: { dir: 'auto' } }));
        row.append(body);
        return row;
      },
    };
  }

  private head(sender: string | null, name: string, teacher: boolean, own: boolean, timeMs: number): HTMLElement {
    const { pickSender } = this.options;
    const mayPick = pickSender !== null && sender !== null && !own && !teacher;
    // Not in the tab order, where hundreds of names would stand before the text field; the list of members has the same.
    const who = mayPick
      ? button({ class: 'conversation__name', attributes: { tabindex: '-1' }, onClick: () => pickSender(sender) }, foreign(name))
      : el('span', { class: 'conversation__name' }, foreign(name));
    if (sender !== null) who.title = sender;
    return el(
      'p',
      { class: 'conversation__head' },
      who,
      teacher ? el('span', { class: 'badge', text: t('teacher') }) : null,
      el('time', { text: clockTime(timeMs, languageTag()), attributes: { datetime: new Date(timeMs).toISOString() } }),
    );
  }

  private ownItem(line: Outgoing): Item {
    const { ownId, sayAgain, discard } = this.options;
    const fate =
      line.state === 'refused' ? t('fate_refused', { reason: t(`reason_${line.reason ?? 'unknown'}`) }) : t(`fate_${line.state}`);
    const ended = line.state === 'refused' || line.state === 'unanswered';
    return {
      key: refKey({ sender: ownId, ref: line.ref }) ?? line.ref,
      signature: [fate, languageTag()].join('\n'),
      make: () =>
        el(
          'li',
          { class: lineClass('own', 'pending', ended && 'ended', line.state === 'refused' && 'refused') },
          el(
            'div',
            { class: 'conversation__body' },
            el('p', { class: 'words conversation__text', text: shownText(line.text), attributes: { dir: 'auto' } }),
            el(
              'p',
              { class: 'conversation__fate' },
              el('span', { text: fate }),
              ended ? button({ class: 'button--quiet', text: t('sayAgain'), onClick: () => sayAgain(line.ref) }) : null,
              ended ? button({ class: 'button--quiet', text: t('discard'), onClick: () => discard(line.ref) }) : null,
            ),
          ),
        ),
    };
  }

  private noticeItem(entry: Entry): Item {
    const { line, key } = entry;
    return {
      key,
      signature: languageTag(),
      make: () =>
        el(
          'li',
          { class: lineClass('notice') },
          el(
            'p',
            { class: 'conversation__head' },
            el('span', { class: 'conversation__name', text: t('notice') }),
            el('time', { text: clockTime(line.timeMs, languageTag()), attributes: { datetime: new Date(line.timeMs).toISOString() } }),
          ),
          el('p', { class: 'words', text: shownText(line.text), attributes: { dir: 'auto' } }),
        ),
    };
  }

  private dayItem(timeMs: number, day: string): Item {
    const make = (): HTMLElement => el('li', { class: 'conversation__between', text: dayName(timeMs, languageTag()) });
    return { key: `day:${day}`, signature: languageTag(), make };
  }
}

/** What stands above the lines, or instead of them. */
function hint(hasLines: boolean, { hasOlder, caughtUpOnce, incomplete }: Shown): string {
  // Also without a line: that nobody has said anything would not be true.
  if (incomplete) return t('incomplete');
  if (hasLines) return hasOlder ? t('older') : '';
  return t(caughtUpOnce ? 'empty' : 'loading');
}

function gapItem(key: string): Item {
  const make = (): HTMLElement => el('li', { class: 'conversation__between conversation__between--gap', text: t('gap') });
  return { key: `gap:${key}`, signature: languageTag(), make };
}

function lineClass(...kinds: (string | false)[]): string {
  const modifiers = kinds.filter(Boolean).map((kind) => `conversation__line--${kind}`);
  return ['conversation__line', ...modifiers].join(' ');
}
