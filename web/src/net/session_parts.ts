// What a stay in a room is made of: its states, what it tells, and what it needs from outside.

import type { Line, Presence, Private } from '../talk/wire';
import type { ApiError, Config, History } from './api';
import type { OpenLink } from './link';

/**
 * connecting, then catching_up, then live. waiting: the next try is at `atMs`. secret: the login secret is needed first.
 * replaced: another window uses this client id. left: until `start`.
 */
export type State =
  | { readonly is: 'connecting' | 'catching_up' | 'live' | 'replaced' | 'left' }
  | { readonly is: 'waiting'; readonly atMs: number; readonly why: 'lost' | 'no_server' | 'refused' }
  | { readonly is: 'secret'; readonly wasWrong: boolean };

export interface Events {
  state(state: State): void;
  /** Lines, own lines or the mute are not what they were. */
  changed(): void;
  /** A line of the room that is new and not from the history. */
  arrived(line: Line): void;
  presence(presence: Presence): void;
  /** Something of the reader's was refused that is no line of the outbox. */
  refused(refusal: Extract<Private, { type: 'refused' }>): void;
  /** Own rights may have changed: time to ask the server for the members. */
  ownMuteHeard(): void;
  historyFailed(error: ApiError): void;
}

export interface Parts {
  readonly config: Config;
  readonly roomId: string;
  readonly clientId: string;
  readonly login: { get(): Promise<string>; refused(): void };
  readonly readHistory: (limit: number) => Promise<History>;
  readonly openLink: OpenLink;
  readonly events: Events;
}
