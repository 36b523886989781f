// How long to wait before the next try: longer each time, never in step with the rest of the class.

const FIRST_MS = 500;
const LONGEST_MS = 30_000;
const HELD_MS = 10_000;

export class Backoff {
  private failures = 0;

  constructor(
    private readonly random: () => number = Math.random,
    private readonly firstMs = FIRST_MS,
  ) {}

  /** `heldMs`: how long the last connection lived; one that lived for a while starts anew. */
  nextMs(heldMs = 0): number {
    if (heldMs >= HELD_MS) this.failures = 0;
    const plainMs = Math.min(LONGEST_MS, this.firstMs * 2 ** this.failures);
    this.failures = Math.min(this.failures + 1, 16);
    return Math.round(plainMs * (0.7 + 0.6 * this.random()));
  }

  reset(): void {
    this.failures = 0;
  }
}
