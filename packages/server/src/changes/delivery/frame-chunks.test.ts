import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TextFrames } from '../../connections/frame.js';
import { FrameChunks } from './frame-chunks.js';

it('chunks have the bytes of all messages in order, adjacent or not', () => {
  const message = fc.record({ length: fc.integer({ min: 1, max: 6_000 }), isOther: fc.boolean() });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 60 }), (messages) => {
      const [ours, others] = [new TextFrames(), new TextFrames()];
      const list = messages.map(({ length, isOther }, batchIndex) => {
        const text = String(batchIndex % 10).repeat(length);
        return { batchIndex, frame: (isOther ? others : ours).encode(text), subscriptions: [] };
      });
      const chunks = new FrameChunks().of([list]);
      expect(Buffer.concat(chunks)).toEqual(Buffer.concat(list.map(({ frame }) => frame)));
    }),
  );
});

it('messages that follow each other in memory are not copied', () => {
  const frames = new TextFrames();
  const list = Array.from({ length: 20 }, (_, batchIndex) => ({
    batchIndex,
    frame: frames.encode('x'.repeat(300)),
    subscriptions: [],
  }));
  const [chunk, ...more] = new FrameChunks().of([list]);
  expect(more).toEqual([]);
  expect(chunk?.buffer).toBe(list[0]?.frame.buffer);
});
