/**
 * The surroundings of a generation as bytes: address types and device names of one namespace. They change while the
 * rules stay, so a generation names them by one pointer; a program reads it once for each question.
 */
import type { TableImage } from './image.ts';
import {
  ADDRESS_TYPE4_SIZE,
  ADDRESS_TYPE6_SIZE,
  AddressType4,
  AddressType6,
  alignUp,
  COUNTER_ALIGNMENT,
  DEVICE_NAME_SIZE,
  SURROUNDINGS_HEADER_SIZE,
  SURROUNDINGS_MAGIC,
  Surroundings,
} from './layout.ts';

/** An address or network and what the kernel's local routing says of it. */
export interface AddressType {
  /** 4 or 16 bytes, network order. */
  readonly value: Uint8Array;
  /** Leading bits that count. */
  readonly prefixLength: number;
  /** RTN_* */
  readonly type: number;
  /** ifindex of its device, 0 for none. */
  readonly device: number;
}

/** What programs ask of their namespace. */
export interface NetnsTables {
  /** Of entries for the same prefix the first counts. */
  readonly addresses: readonly AddressType[];
  /** Device names by ifindex. */
  readonly devices: ReadonlyMap<number, string>;
}

export function surroundingsImage({ addresses, devices }: NetnsTables): TableImage {
  const v4 = sortedAddresses(addresses, 4);
  const v6 = sortedAddresses(addresses, 16);
  const names = devices.size === 0 ? 0 : Math.max(...devices.keys()) + 1;
  const addresses4 = SURROUNDINGS_HEADER_SIZE;
  const addresses6 = alignUp(addresses4 + v4.length * ADDRESS_TYPE4_SIZE, COUNTER_ALIGNMENT);
  const deviceNames = alignUp(addresses6 + v6.length * ADDRESS_TYPE6_SIZE, COUNTER_ALIGNMENT);
  const size = alignUp(deviceNames + names * DEVICE_NAME_SIZE, COUNTER_ALIGNMENT);

  const build = (pointer: number): Uint8Array => {
    const bytes = new Uint8Array(size);
    const view = new DataView(bytes.buffer);
    const u32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
    u32(Surroundings.magic, SURROUNDINGS_MAGIC);
    u32(Surroundings.size, size);
    u32(Surroundings.addresses4, pointer + addresses4);
    u32(Surroundings.addresses4Count, v4.length);
    u32(Surroundings.addresses6, pointer + addresses6);
    u32(Surroundings.addresses6Count, v6.length);
    u32(Surroundings.devices, pointer + deviceNames);
    u32(Surroundings.devicesCount, names);
    for (const [index, entry] of v4.entries())
      writeAddress(bytes, addresses4 + index * ADDRESS_TYPE4_SIZE, entry, AddressType4);
    for (const [index, entry] of v6.entries())
      writeAddress(bytes, addresses6 + index * ADDRESS_TYPE6_SIZE, entry, AddressType6);
    for (const [index, name] of devices) {
      for (let letter = 0; letter < Math.min(name.length, DEVICE_NAME_SIZE - 1); letter++)
        bytes[deviceNames + index * DEVICE_NAME_SIZE + letter] = name.charCodeAt(letter);
    }
    return bytes;
  };
  return { size, build };
}

function sortedAddresses(addresses: readonly AddressType[], length: number): AddressType[] {
  return addresses
    .filter((entry) => entry.value.length === length)
    .sort((a, b) => b.prefixLength - a.prefixLength);
}

function writeAddress(
  bytes: Uint8Array,
  offset: number,
  entry: AddressType,
  layout: typeof AddressType4 | typeof AddressType6,
): void {
  for (let index = 0; index < entry.value.length; index++) {
    const bits = Math.min(8, Math.max(0, entry.prefixLength - index * 8));
    const mask = (0xff00 >> bits) & 0xff;
    bytes[offset + layout.value + index] = entry.value[index]! & mask;
    bytes[offset + layout.mask + index] = mask;
  }
  const view = new DataView(bytes.buffer);
  view.setUint32(offset + layout.type, entry.type, true);
  view.setUint32(offset + layout.device, entry.device, true);
}
