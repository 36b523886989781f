// Who is muted, where and for how long, with the way to lift it.

import { onLanguage, t, tCount } from '../i18n/language';
import type { Mute, People } from '../talk/people';
import { timeLeft } from '../talk/time';
import { button, el, setText, show } from './dom';
import { personText } from './person';

export interface MutedOptions {
  readonly people: People;
  readonly serverNowMs: () => number;
  readonly unmute: (mute: Mute) => void;
}

export class MutedPanel {
  readonly element: HTMLElement;
  private readonly list = el('ul', { class: 'person__list' });
  private readonly empty = el('p', { class: 'hint', t: 'mutedNobody' });
  private mutes: readonly Mute[] = [];
  private rows: { readonly mute: Mute; readonly about: HTMLElement }[] = [];

  constructor(private readonly options: MutedOptions) {
    this.element = el('section', { class: 'panel' }, el('h2', { t: 'muted' }), this.list, this.empty);
    onLanguage(() => this.draw());
    setInterval(() => this.drawTimes(), 1000);
  }

  update(mutes: readonly Mute[]): void {
    if (JSON.stringify(mutes) === JSON.stringify(this.mutes)) return;
    this.mutes = mutes;
    this.draw();
  }

  private running(): readonly Mute[] {
    return this.mutes.filter((one) => one.untilMs === null || one.untilMs > this.options.serverNowMs());
  }

  private draw(): void {
    this.rows = this.running().map((mute) => ({ mute, about: el('span', { class: 'person__about' }) }));
    this.list.replaceChildren(...this.rows.map(({ mute, about }) => this.row(mute, about)));
    show(this.empty, this.rows.length === 0);
    this.drawTimes();
  }

  private drawTimes(): void {
    if (this.running().length !== this.rows.length) {
      this.draw();
      return;
    }
    for (const { mute, about } of this.rows) setText(about, this.about(mute));
  }

  private row(mute: Mute, about: HTMLElement): HTMLElement {
    const name = this.options.people.name(mute.clientId);
    const lift = button({
      class: 'button--quiet',
      text: t('unmute'),
      attributes: { 'aria-label': t('unmuteOf', { name }) },
      onClick: () => this.options.unmute(mute),
    });
    return el('li', { class: 'person' }, personText(name, mute.clientId, about), lift);
  }

  private about(mute: Mute): string {
    const parts = mute.roomId === null ? [t('mutedEverywhere')] : [];
    if (mute.untilMs === null) return [...parts, t('mutedOpen')].join(' · ');
    const left = timeLeft(mute.untilMs, this.options.serverNowMs());
    return [...parts, left.days > 0 ? tCount('mutedDays', left.days) : t('mutedLeft', { time: left.clock })].join(' · ');
  }
}
