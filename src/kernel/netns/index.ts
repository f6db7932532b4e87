export { currentNetnsCookie } from '../sys/socket.ts';
export {
  createNamedNetns,
  createNetns,
  currentNetns,
  currentNetnsInode,
  deleteNetns,
  netnsInode,
  openNetns,
  openNetnsFile,
  withNetns,
  writeSysctl,
} from './netns.ts';
