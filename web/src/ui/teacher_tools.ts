// What only a teacher has: mute and unmute, the list of the muted, notices. It promises: it says "done" only when the
// server's own list shows it.

import { t } from '../i18n/language';
import type { RoomApi } from '../net/api';
import { ApiError } from '../net/api';
import { randomText } from '../net/identity';
import type { MembersWatch } from '../net/members_watch';
import type { RoomSession } from '../net/session';
import type { Mute, People } from '../talk/people';
import { muteBody, unmuteBody } from '../talk/wire';
import type { Toasts } from './announcer';
import { wordsOf } from './api_problem';
import { askHowToMute } from './dialogs';
import { button, el, show } from './dom';
import { MutedPanel } from './muted_panel';
import { noticeForm } from './notices';
import './teacher_tools.css';

/** When to look whether a command has had its effect. */
const LOOK_AFTER_MS = [150, 400, 800, 1600, 3000, 5000];

export interface TeacherParts {
  readonly roomId: string;
  readonly people: People;
  readonly api: RoomApi;
  readonly session: () => RoomSession;
  readonly watch: () => MembersWatch;
  readonly toasts: Toasts;
  readonly serverNowMs: () => number;
  readonly enterSecret: () => void;
}

export class TeacherTools {
  readonly notice: HTMLElement;
  readonly muted: MutedPanel;
  /** Shown while the login has no teacher rights. */
  readonly denied: HTMLElement;
  private mutes: readonly Mute[] = [];

  constructor(private readonly parts: TeacherParts) {
    this.notice = noticeForm((text) => this.sendNotice(text));
    this.muted = new MutedPanel({
      people: parts.people,
      serverNowMs: parts.serverNowMs,
      unmute: (mute) => void this.lift([mute]),
    });
    this.denied = el(
      'section',
      { class: 'panel teacher-tools__denied' },
      el('p', { t: 'notTeacher' }),
      button({ class: 'button--main', t: 'secretButton', onClick: parts.enterSecret }),
    );
    show(this.denied, false);
  }

  update(mutes: readonly Mute[]): void {
    this.mutes = mutes;
    this.muted.update(mutes);
    this.allow(true);
  }

  allow(teacher: boolean): void {
    show(this.denied, !teacher);
    show(this.notice, teacher);
    show(this.muted.element, teacher);
  }

  async mute(clientId: string): Promise<void> {
    const name = this.parts.people.name(clientId);
    const choice = await askHowToMute(name);
    if (!choice) return;
    const roomId = choice.everywhere ? null : this.parts.roomId;
    const body = muteBody(clientId, roomId, choice.seconds, randomText(20));
    const untilMs = choice.seconds === null ? null : this.parts.serverNowMs() + choice.seconds * 1000;
    // A longer or shorter mute replaces one that is there: its new end shows that it did.
    const shows = (mute: Mute): boolean =>
      mute.clientId === clientId &&
      mute.roomId === roomId &&
      (untilMs === null ? mute.untilMs === null : Math.abs((mute.untilMs ?? 0) - untilMs) < 20_000);
    await this.carryOut([body], () => this.mutes.some(shows), t('muteDone', { name }));
  }

  /** All that keeps this member quiet here. */
  async unmute(clientId: string): Promise<void> {
    const { roomId } = this.parts;
    const mutes = this.mutes.filter((one) => one.clientId === clientId && (one.roomId === null || one.roomId === roomId));
    const unknown = { clientId, roomId, untilMs: null, by: null, atMs: null };
    await this.lift(mutes.length > 0 ? mutes : [unknown, { ...unknown, roomId: null }]);
  }

  private async lift(mutes: readonly Mute[]): Promise<void> {
    const is =
      (one: Mute) =>
      (other: Mute): boolean =>
        one.clientId === other.clientId && one.roomId === other.roomId;
    const name = this.parts.people.name(mutes[0]?.clientId ?? null);
    const bodies = mutes.map((one) => unmuteBody(one.clientId, one.roomId, randomText(20)));
    await this.carryOut(bodies, () => !mutes.some((one) => this.mutes.some(is(one))), t('unmuteDone', { name }));
  }

  private async carryOut(bodies: readonly string[], isDone: () => boolean, done: string): Promise<void> {
    const { session, watch, toasts } = this.parts;
    try {
      for (const body of bodies) await session().command(body);
    } catch {
      toasts.say(t('commandLost'));
      return;
    }
    for (const delayMs of LOOK_AFTER_MS) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await watch().refresh();
      if (!isDone()) continue;
      toasts.say(done);
      return;
    }
    toasts.say(t('commandUnsure'));
  }

  private async sendNotice(text: string): Promise<string | null> {
    try {
      await this.parts.api.notice(text);
      return null;
    } catch (error) {
      return error instanceof ApiError ? wordsOf(error) : String(error);
    }
  }
}
