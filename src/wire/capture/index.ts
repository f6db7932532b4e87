/** Capture files: an incremental reader of pcap and pcapng, and writers of both. */
export * from './model.ts';
export { type CaptureContents, CaptureReader, readCapture } from './reader.ts';
export * from './writer.ts';
