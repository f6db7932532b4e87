export {
  addAddress,
  type DeviceAddress,
  deleteAddress,
  listAddresses,
  listNeighbours,
  type Neighbour as NeighbourEntry,
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
export { AddressEvents, waitForAddressEvents } from './events.ts';
export {
  addRoute,
  deleteRoute,
  type ListedRoute,
  type LocalRoute,
  listLocalRoutes,
  listRoutes,
  localTableHoldsMain,
  type Route,
} from './route.ts';
export { addRule, type RoutingRule } from './rule.ts';
