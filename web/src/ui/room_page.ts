// A room's page, for a teacher or a student: the only wiring of what is known, what arrives and what is shown.

import { onLanguage, startLanguage, t } from '../i18n/language';
import type { Config } from '../net/api';
import { ApiError, ConfigMissing, RoomApi, readConfig } from '../net/api';
import { ownClientId } from '../net/identity';
import { openLink } from '../net/link';
import { Login, loginOfAddress } from '../net/login';
import { MembersWatch } from '../net/members_watch';
import { RoomSession } from '../net/session';
import type { State } from '../net/session_parts';
import { Backoff } from '../talk/backoff';
import type { Members, Role } from '../talk/people';
import { People } from '../talk/people';
import { shownText } from '../talk/text';
import type { Line, Private } from '../talk/wire';
import { ROOM_ID } from '../talk/wire';
import { Announcer, Toasts } from './announcer';
import { wordsOf } from './api_problem';
import { Composer } from './composer';
import { Conversation } from './conversation';
import { showDeadEnd } from './dead_end';
import { askForSecret } from './dialogs';
import { el, setText, show } from './dom';
import { Frame } from './frame';
import { NameForm } from './name_form';
import { NoticeBanner } from './notices';
import { PeoplePanel } from './people_panel';
import { Status } from './status';
import { TeacherTools } from './teacher_tools';
import './room_page.css';

export async function startRoomPage(role: Role): Promise<void> {
  startLanguage();
  const roomId = new URLSearchParams(location.search).get('room') ?? '';
  const { token, client } = loginOfAddress();
  if (!ROOM_ID.test(roomId)) {
    showDeadEnd();
    return;
  }
  const config = await configAtLast();
  const clientId = await ownClientId(role === 'teacher' ? config.teacherGroup : config.studentGroup, client);
  const page = new RoomPage(role, roomId, clientId, config);
  page.start(token);
}

/** The page is of no use without it, so it asks until there is an answer. */
async function configAtLast(): Promise<Config> {
  const waiting = el('p', { class: 'hint room-page__waiting', attributes: { role: 'status' } });
  document.body.append(waiting);
  const backoff = new Backoff();
  for (;;) {
    try {
      const config = await readConfig();
      waiting.remove();
      return config;
    } catch (error) {
      setText(waiting, error instanceof ConfigMissing ? t('configMissing', { key: error.key }) : t('noServer'));
      await new Promise((resolve) => setTimeout(resolve, backoff.nextMs()));
    }
  }
}

class RoomPage {
  private readonly people: People;
  private readonly login: Login;
  private readonly api: RoomApi;
  private readonly session: RoomSession;
  private readonly watch: MembersWatch;
  private readonly toasts = new Toasts();
  private readonly announcer = new Announcer();
  private readonly banner = new NoticeBanner();
  private readonly problem = el('p', { class: 'strip' });
  private readonly nameForm: NameForm;
  private readonly status: Status;
  private readonly conversation: Conversation;
  private readonly composer: Composer;
  private readonly panel: PeoplePanel;
  private readonly tools: TeacherTools | null;
  private readonly frame: Frame;
  private problemText = (): string => '';
  private online = 0;
  private caughtUpOnce = false;
  private asking = false;

  constructor(
    private readonly role: Role,
    private readonly roomId: string,
    private readonly clientId: string,
    private readonly config: Config,
  ) {
    this.people = new People(config.teacherGroup);
    this.login = new Login({ loginUrl: config.loginUrl, clientId, role, roomId });
    this.api = new RoomApi(
      roomId,
      clientId,
      () => this.login.get(),
      () => this.login.refused(),
    );
    this.session = this.makeSession();
    this.watch = this.makeWatch();
    this.nameForm = new NameForm(
      (name) => this.session.rename(name),
      () => this.composer.focus(),
    );
    this.status = new Status({
      tryNow: () => this.session.hurry(),
      useHere: () => this.session.start(),
      enterSecret: this.hasSecret() ? () => void this.enterSecret(false) : null,
    });
    this.tools = role === 'teacher' ? this.makeTools() : null;
    this.conversation = this.makeConversation();
    this.composer = this.makeComposer();
    this.panel = this.makePanel();
    onLanguage(() => this.drawProblem());
    this.frame = new Frame({
      role,
      roomId,
      state: this.status.element,
      ownName: this.nameForm.opener,
      talk: [this.status.bar, this.problem, this.banner.element, this.conversation.element, this.nameForm.element, this.composer.element],
      side: this.tools ? [this.tools.denied, this.tools.notice, this.panel.element, this.tools.muted.element] : [this.panel.element],
      last: [this.toasts.element, this.announcer.element],
    });
  }

  start(token: string | null): void {
    if (token !== null) this.login.useToken(token);
    this.session.rename(this.nameForm.current());
    this.session.start();
    addEventListener('online', () => this.session.hurry());
    addEventListener('offline', () => this.session.networkLost());
    addEventListener('pagehide', () => this.session.leave());
    addEventListener('pageshow', (event) => {
      if (event.persisted) this.session.start();
    });
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) return;
      this.session.hurry();
      void this.watch.refresh();
    });
  }

  private hasSecret(): boolean {
    return this.role === 'teacher' && this.config.loginUrl !== null;
  }

  private readonly serverNowMs = (): number => Date.now() + this.api.offsetMs;

  private makeSession(): RoomSession {
    return new RoomSession({
      config: this.config,
      roomId: this.roomId,
      clientId: this.clientId,
      login: this.login,
      readHistory: (limit) => this.api.history(limit),
      openLink,
      events: {
        state: (state) => this.stateIs(state),
        changed: () => this.changed(),
        arrived: (line) => this.arrived(line),
        presence: (presence) => {
          if (presence.type === 'summary') this.online = presence.online;
          this.watch.presence(presence);
          this.changed();
        },
        refused: (refusal) => this.refused(refusal),
        ownMuteHeard: () => this.muteHeard(),
        historyFailed: (error) => this.say(() => t('historyFailed', { detail: wordsOf(error) })),
      },
    });
  }

  private makeWatch(): MembersWatch {
    return new MembersWatch(this.role, {
      members: () => this.api.members(),
      mutes: this.role === 'teacher' ? () => this.api.mutes() : null,
      mark: () => this.session.mutes.mark(),
      freshMembers: (members, mark) => this.freshMembers(members, mark),
      freshMutes: (mutes) => this.tools?.update(mutes),
      failed: (error) => this.membersFailed(error),
    });
  }

  private makeTools(): TeacherTools {
    return new TeacherTools({
      roomId: this.roomId,
      people: this.people,
      api: this.api,
      session: () => this.session,
      watch: () => this.watch,
      toasts: this.toasts,
      serverNowMs: this.serverNowMs,
      enterSecret: () => void this.enterSecret(false),
    });
  }

  private makeConversation(): Conversation {
    const { tools, session } = this;
    return new Conversation({
      ownId: this.clientId,
      people: this.people,
      read: () => ({
        entries: session.timeline.entries(),
        own: session.outbox.entries(),
        hasOlder: session.timeline.hasOlder(),
        caughtUpOnce: this.caughtUpOnce,
        incomplete: session.isIncomplete(),
      }),
      sayAgain: (ref) => session.sayAgain(ref),
      discard: (ref) => session.discard(ref),
      pickSender: tools ? (clientId) => void tools.mute(clientId) : null,
    });
  }

  private makeComposer(): Composer {
    const { session } = this;
    return new Composer({
      say: (text) => {
        const taken = session.say(text);
        if (taken) this.conversation.toEnd();
        return taken;
      },
      muted: () => session.mutes.now(this.serverNowMs()),
      serverNowMs: this.serverNowMs,
      connected: () => session.isConnected(),
      waiting: () => session.outbox.waitingCount(),
      free: () => this.announcer.urgently(t('unmutedNow')),
    });
  }

  private makePanel(): PeoplePanel {
    const { tools } = this;
    const moderate = tools && {
      mute: (member: { clientId: string }) => void tools.mute(member.clientId),
      unmute: (member: { clientId: string }) => void tools.unmute(member.clientId),
    };
    return new PeoplePanel({ ownId: this.clientId, people: this.people, serverNowMs: this.serverNowMs, moderate });
  }

  private stateIs(state: State): void {
    this.status.set(state);
    if (state.is === 'catching_up') this.watch.start();
    if (state.is === 'live') {
      this.caughtUpOnce = true;
      this.say(() => '');
      this.watch.start();
    }
    if (state.is === 'secret' && this.hasSecret()) void this.enterSecret(state.wasWrong);
  }

  private changed(): void {
    const { timeline } = this.session;
    this.frame.setCounts(this.online, timeline.lineCount(), timeline.hasOlder());
    this.conversation.plan();
    this.composer.draw();
  }

  private arrived(line: Line): void {
    this.frame.noteArrival();
    if (line.kind === 'notice') {
      this.banner.set(line);
      this.announcer.urgently(`${t('notice')}: ${shownText(line.text)}`);
    } else if (line.sender !== this.clientId) {
      if (line.sender !== null && this.people.isNews(line.sender, line.name)) this.watch.unknownSpeaker();
      this.announcer.line(this.people.name(line.sender, line.name), shownText(line.text));
    }
  }

  private muteHeard(): void {
    if (this.session.mutes.now(this.serverNowMs())) this.announcer.urgently(t('mutedAnnounce'));
    void this.watch.refresh();
  }

  private refused(refusal: Extract<Private, { type: 'refused' }>): void {
    this.toasts.say(t('refusedToast', { reason: t(`reason_${refusal.reason}`) }));
  }

  private freshMembers({ online, members }: Members, mark: number): void {
    const known = this.people.update(members, this.serverNowMs());
    this.online = online;
    const self = members.find((one) => one.clientId === this.clientId);
    if (self) this.session.mutes.fromList(self.muted, self.mutedUntilMs, mark);
    this.panel.update(known);
    this.changed();
  }

  private membersFailed(error: unknown): void {
    this.panel.fail();
    if (this.role === 'teacher' && error instanceof ApiError && error.status === 403) this.tools?.allow(false);
  }

  private async enterSecret(wasWrong: boolean): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    const secret = await askForSecret(wasWrong);
    this.asking = false;
    if (secret === null) {
      this.tools?.allow(false);
      return;
    }
    this.login.useSecret(secret);
    this.session.start();
  }

  private say(text: () => string): void {
    this.problemText = text;
    this.drawProblem();
  }

  private drawProblem(): void {
    const text = this.problemText();
    setText(this.problem, text);
    show(this.problem, text !== '');
  }
}
