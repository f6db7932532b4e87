export { currentNetnsCookie, socketNetnsCookie } from '../sys/socket.ts';
export { listNetnsNames, reachableNetns, reachableNetnsInodes } from './inventory.ts';
export {
  createNamedNetns,
  createNetns,
  currentNetns,
  currentNetnsInode,
  deleteNetns,
  NETNS_DIRECTORY,
  netnsInode,
  openNetns,
  openNetnsFile,
  readSysctl,
  withNetns,
  writeSysctl,
} from './netns.ts';
