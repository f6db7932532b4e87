export { BPFFS_PATH, ensureBpffs, findBpffs, findCgroup2 } from './mount.ts';
export {
  openPinnedLink,
  openPinnedMap,
  openPinnedProgram,
  type Pinnable,
  pin,
  replacePin,
  unpin,
} from './pin.ts';
