// Whether the reader may speak. It promises: the strictest of what was said holds, and it ends by itself. It is only a
// courtesy of the page: the bridge judges each line anyway.

export type Muted = { readonly untilMs: number | null };

export class OwnMutes {
  /** By room, '*' for all rooms; the value is the end, null for none. */
  private readonly ends = new Map<string, number | null>();
  private heard = 0;

  constructor(private readonly roomId: string) {}

  shutUp(roomId: string | null, untilMs: number | null): void {
    if (roomId !== null && roomId !== this.roomId) return;
    this.heard += 1;
    this.ends.set(roomId ?? '*', untilMs);
  }

  /** What it lifts is not always what was said here, as after a reload: all is lifted, and the list of members corrects it. */
  unShutUp(roomId: string | null): void {
    if (roomId !== null && roomId !== this.roomId) return;
    this.heard += 1;
    this.ends.clear();
  }

  /** To be taken before the list of members is asked for. */
  mark(): number {
    return this.heard;
  }

  /** What the list of members says, unless something newer was heard since `mark`. */
  fromList(muted: boolean, untilMs: number | null, mark: number): void {
    if (mark !== this.heard) return;
    this.ends.clear();
    if (muted) this.ends.set('*', untilMs);
  }

  /** Null: the reader may speak. */
  now(nowMs: number): Muted | null {
    let latest: number | null | undefined;
    for (const [place, untilMs] of this.ends) {
      if (untilMs !== null && untilMs <= nowMs) this.ends.delete(place);
      else if (latest === undefined) latest = untilMs;
      else latest = latest === null || untilMs === null ? null : Math.max(latest, untilMs);
    }
    return latest === undefined ? null : { untilMs: latest };
  }
}
