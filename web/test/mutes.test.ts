import { describe, expect, it } from 'vitest';
import { OwnMutes } from '../src/talk/mutes';

describe('a muted reader', () => {
  it('may speak again when the time is over', () => {
    const mutes = new OwnMutes('1');
    mutes.shutUp('1', 5000);
    expect(mutes.now(4999)).toEqual({ untilMs: 5000 });
    expect(mutes.now(5000)).toBeNull();
  });

  it('is held by the longest of several mutes', () => {
    const mutes = new OwnMutes('1');
    mutes.shutUp('1', 5000);
    mutes.shutUp(null, 9000);
    expect(mutes.now(0)).toEqual({ untilMs: 9000 });
    mutes.shutUp(null, null);
    expect(mutes.now(0)).toEqual({ untilMs: null });
  });

  it('does not care for other rooms', () => {
    const mutes = new OwnMutes('1');
    mutes.shutUp('2', null);
    expect(mutes.now(0)).toBeNull();
    mutes.shutUp('1', null);
    mutes.unShutUp('2');
    expect(mutes.now(0)).not.toBeNull();
    mutes.unShutUp(null);
    expect(mutes.now(0)).toBeNull();
  });
});

describe('the list of members', () => {
  it('says what a reloaded page cannot know', () => {
    const mutes = new OwnMutes('1');
    mutes.fromList(true, 7000, mutes.mark());
    expect(mutes.now(0)).toEqual({ untilMs: 7000 });
    mutes.fromList(false, null, mutes.mark());
    expect(mutes.now(0)).toBeNull();
  });

  it('is not believed if something newer was heard while it was on its way', () => {
    const mutes = new OwnMutes('1');
    const mark = mutes.mark();
    mutes.shutUp(null, null);
    mutes.fromList(false, null, mark);
    expect(mutes.now(0)).not.toBeNull();
  });
});
