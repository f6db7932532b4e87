export { buildNotifyFilter, type CallFilter, installNotifyFilter, type NotifiedCall } from './filter.ts';
export { type Answer, type Notification, NotificationListener } from './listener.ts';
