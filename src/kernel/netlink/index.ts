export {
  addAddress,
  addRoute,
  type DeviceAddress,
  deleteAddress,
  deleteRoute,
  listAddresses,
  listNeighbours,
  type Neighbour as NeighbourEntry,
  type Route,
  setNeighbour,
} from './address.ts';
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
