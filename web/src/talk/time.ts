// Times as the reader's clock and language show them, and how long something still lasts.

export interface Left {
  readonly days: number;
  /** `4:05`, or `1:04:05` from an hour on. */
  readonly clock: string;
}

/** Rounded up: what still lasts is never shown as 0:00. */
export function timeLeft(untilMs: number, nowMs: number): Left {
  const seconds = Math.max(0, Math.ceil((untilMs - nowMs) / 1000));
  const days = Math.floor(seconds / 86_400);
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  const two = (number: number): string => String(number).padStart(2, '0');
  const rest = seconds % 60;
  return { days, clock: hours > 0 || days > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}` };
}

export function clockTime(timeMs: number, language: string): string {
  return new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', hour12: false }).format(timeMs);
}

export function dayName(timeMs: number, language: string): string {
  return new Intl.DateTimeFormat(language, { weekday: 'long', day: 'numeric', month: 'long' }).format(timeMs);
}

/** The same on one local day, for a line between days. */
export function dayOf(timeMs: number): string {
  const date = new Date(timeMs);
  return `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`;
}

/**
 * How far the server's clock is before ours, from an answer's Date header, which knows whole seconds only. A small difference
 * is none: it is the age of the answer.
 */
export function clockOffsetMs(dateHeader: string | null, nowMs: number): number {
  const server = dateHeader === null ? Number.NaN : Date.parse(dateHeader);
  const offset = server + 500 - nowMs;
  return Number.isFinite(offset) && Math.abs(offset) > 2500 ? offset : 0;
}
