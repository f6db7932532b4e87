/** Socket steering: bindings to sockets in a network namespace. */
export {
  type ActivationSocket,
  activationLabel,
  activationSockets,
  withoutGroupMates,
} from './activation.ts';
export { SOCKET_HOST_CODES, type SocketHostCode, SocketHostError } from './error.ts';
export { type ConsideredBinding, explainLookup, type SocketExplanation } from './explain.ts';
export { type Imported, importBindings, type NotImported } from './import.ts';
export { inspectSocket, type SteerableSocket, socketName } from './inspect.ts';
export { ERROR_REASONS, type ErrorReason, type LabelMetrics, prometheusText } from './metrics.ts';
export { registerNodeSocket } from './node.ts';
export { type ProcessSocket, takeProcessSocket } from './process.ts';
export { type ReceiverOptions, receiveSockets } from './receiver.ts';
export {
  type DestinationStatus,
  type MemberStatus,
  type RegisterOptions,
  type SocketFilter,
  SocketSteering,
  type SteeringStatus,
} from './steering.ts';
