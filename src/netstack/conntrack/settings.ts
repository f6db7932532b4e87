/** net.netfilter.nf_conntrack_* of a namespace; names follow the sysctls, times in milliseconds. */
export interface ConntrackSettings {
  /** nf_conntrack_checksum: packets with wrong transport checksums are INVALID. */
  readonly checksum: boolean;
  readonly tcpLoose: boolean;
  readonly tcpBeLiberal: boolean;
  readonly tcpIgnoreInvalidRst: boolean;
  readonly tcpMaxRetrans: number;
  /** By number of the TCP state (0 is unused), then the two special timeouts. */
  readonly tcpTimeoutsMs: readonly number[];
  readonly tcpTimeoutRetransMs: number;
  readonly tcpTimeoutUnacknowledgedMs: number;
  /** By number of the SCTP state (0 is unused). */
  readonly sctpTimeoutsMs: readonly number[];
  readonly udpTimeoutMs: number;
  readonly udpTimeoutStreamMs: number;
  readonly icmpTimeoutMs: number;
  readonly icmpv6TimeoutMs: number;
  readonly greTimeoutMs: number;
  readonly greTimeoutStreamMs: number;
  readonly genericTimeoutMs: number;
  /**
   * nf_conntrack_max: a full table drops packets that would open a connection. One takes about 1.5 KB here, so the default
   * allows for some 400 MB.
   */
  readonly maximumEntries: number;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** The kernel's defaults (Documentation/networking/nf_conntrack-sysctl.rst). */
export const DEFAULT_SETTINGS: ConntrackSettings = {
  checksum: true,
  tcpLoose: true,
  tcpBeLiberal: false,
  tcpIgnoreInvalidRst: false,
  tcpMaxRetrans: 3,
  tcpTimeoutsMs: [
    2 * MINUTE, // NONE: unused
    2 * MINUTE, // SYN_SENT
    60 * SECOND, // SYN_RECV
    5 * 24 * 60 * MINUTE, // ESTABLISHED
    2 * MINUTE, // FIN_WAIT
    60 * SECOND, // CLOSE_WAIT
    30 * SECOND, // LAST_ACK
    2 * MINUTE, // TIME_WAIT
    10 * SECOND, // CLOSE
    2 * MINUTE, // SYN_SENT2
  ],
  tcpTimeoutRetransMs: 5 * MINUTE,
  tcpTimeoutUnacknowledgedMs: 5 * MINUTE,
  sctpTimeoutsMs: [
    10 * SECOND, // NONE: unused
    10 * SECOND, // CLOSED
    3 * SECOND, // COOKIE_WAIT
    3 * SECOND, // COOKIE_ECHOED
    210 * SECOND, // ESTABLISHED
    3 * SECOND, // SHUTDOWN_SENT
    3 * SECOND, // SHUTDOWN_RECD
    3 * SECOND, // SHUTDOWN_ACK_SENT
    30 * SECOND, // HEARTBEAT_SENT
  ],
  udpTimeoutMs: 30 * SECOND,
  udpTimeoutStreamMs: 120 * SECOND,
  icmpTimeoutMs: 30 * SECOND,
  icmpv6TimeoutMs: 30 * SECOND,
  greTimeoutMs: 30 * SECOND,
  greTimeoutStreamMs: 180 * SECOND,
  genericTimeoutMs: 600 * SECOND,
  maximumEntries: 262_144,
};
