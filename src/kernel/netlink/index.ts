export {
  addAddress,
  addRoute,
  type DeviceAddress,
  deleteAddress,
  deleteRoute,
  type ListedRoute,
  listAddresses,
  listNeighbours,
  listRoutes,
  type Neighbour as NeighbourEntry,
  type Route,
  setNeighbour,
} from './address.ts';
export { type ListedConnection, type ListedTuple, listConnections } from './conntrack.ts';
export {
  changeDevice,
  createBridge,
  createVeth,
  type Device,
  type DeviceChange,
  deleteDevice,
  findDevice,
  listDevices,
  type VethEnd,
  type XdpPrograms,
} from './device.ts';
