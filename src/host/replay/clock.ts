/** The clock of a replay: it stands where the packet at hand was captured. */
import { ManualClock } from '../../netstack/index.ts';
import type { ReplayPacket } from './capture.ts';

export class ReplayClock extends ManualClock {
  #startMs = 0;

  /** Time goes on to when the packet was captured. */
  take({ timeMs, startMs }: ReplayPacket): void {
    this.#startMs = startMs ?? 0;
    this.moveTo(timeMs);
  }

  /** Milliseconds since 1970, UTC, as the capture has them. */
  wallMs(): number {
    return this.#startMs + this.nowMs();
  }
}
