// The frame of a room's page: header, conversation, side panel. On a phone the panel is a sheet over the conversation.

import { onLanguage, t, tCount } from '../i18n/language';
import type { Role } from '../talk/people';
import { button, el, foreign, setText, show } from './dom';
import { languageSwitch } from './language_switch';
import './frame.css';

export interface FrameParts {
  readonly role: Role;
  readonly roomId: string;
  readonly state: HTMLElement;
  readonly ownName: HTMLElement;
  /** Above each other, the conversation among them. */
  readonly talk: readonly HTMLElement[];
  readonly side: readonly HTMLElement[];
  readonly last: readonly HTMLElement[];
}

export class Frame {
  private readonly online = button({ class: 'button--quiet frame__online', onClick: () => this.toggle(this.side.hidden !== false) });
  private readonly lines = el('span', { class: 'frame__lines' });
  private readonly side: HTMLElement;
  private readonly closer = button({ class: 'button--close frame__close', tLabel: 'close', text: '×', onClick: () => this.toggle(false) });
  private counts = { online: 0, lines: 0, more: false };
  private unseen = 0;
  /** Wide enough for both, where a teacher always has both. */
  private readonly wide = matchMedia('(min-width: 60rem)');

  constructor(private readonly parts: FrameParts) {
    const { roomId, role, state, ownName, talk, last } = parts;
    this.side = el('aside', { class: 'frame__side', id: 'side', tLabel: 'people' }, this.closer, ...parts.side);
    this.online.setAttribute('aria-controls', 'side');
    document.body.classList.add('frame');
    document.body.append(
      el('a', { class: 'frame__skip', t: 'skipToSay', attributes: { href: '#say' } }),
      el(
        'header',
        { class: 'frame__top' },
        el(
          'a',
          { class: 'frame__home', tLabel: 'home', attributes: { href: './' } },
          el('span', { class: 'mark', attributes: { 'aria-hidden': 'true' } }),
        ),
        el('h1', { class: 'frame__room' }, el('span', { t: 'room' }), ' ', foreign(roomId)),
        role === 'teacher' ? el('span', { class: 'badge frame__role', t: 'teacher' }) : null,
        state,
        el('div', { class: 'frame__facts' }, this.online, this.lines, ownName, languageSwitch()),
      ),
      el('div', { class: 'frame__columns' }, el('main', { class: 'frame__talk' }, ...talk), this.side),
      ...last,
    );
    this.side.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !this.isFixed()) this.toggle(false);
    });
    this.wide.addEventListener('change', () => this.settle());
    document.addEventListener('visibilitychange', () => this.seen());
    this.settle();
    onLanguage(() => this.draw());
  }

  setCounts(online: number, lines: number, more: boolean): void {
    this.counts = { online, lines, more };
    this.draw();
  }

  /** A line that came while nobody looks stands in the title. */
  noteArrival(): void {
    if (!document.hidden) return;
    this.unseen += 1;
    this.draw();
  }

  private seen(): void {
    if (document.hidden) return;
    this.unseen = 0;
    this.draw();
  }

  private isFixed(): boolean {
    return this.parts.role === 'teacher' && this.wide.matches;
  }

  private settle(): void {
    show(this.side, this.isFixed());
    show(this.closer, !this.isFixed());
    this.online.disabled = this.isFixed();
    this.online.setAttribute('aria-expanded', String(this.isFixed()));
  }

  private toggle(open: boolean): void {
    show(this.side, open);
    this.online.setAttribute('aria-expanded', String(open));
    (open ? this.closer : this.online).focus();
  }

  private draw(): void {
    const { online, lines, more } = this.counts;
    setText(this.online, tCount('online', online));
    setText(this.lines, more ? t('linesMore', { count: lines }) : tCount('lines', lines));
    const title = t(this.parts.role === 'teacher' ? 'titleTeacher' : 'titleStudent', { room: this.parts.roomId });
    document.title = this.unseen > 0 ? `(${this.unseen}) ${title}` : title;
  }
}
