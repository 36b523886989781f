import { describe, expect, it } from 'vitest';
import { fenceBody, lineBody, muteBody, ROOM_ID, readLine, readNotice, readPresence, readPrivate, unmuteBody } from '../src/talk/wire';

const facts = { id: '1', sender: 'GID_student@@@a', timeMs: 5 };

describe('a line', () => {
  it('is by whom the bridge says, not by whom the body says', () => {
    expect(readLine('{"peer":"GID_teacher@@@t","msg":"x"}', facts).sender).toBe('GID_student@@@a');
    expect(readLine('{"peer":"GID_teacher@@@t","msg":"x"}', { ...facts, sender: null }).sender).toBe('GID_teacher@@@t');
  });

  it('is shown as it is if it is no JSON object', () => {
    for (const body of ['plain', '[1]', '"x"', 'null', '{"msg":']) expect(readLine(body, facts).text).toBe(body);
  });

  it('survives any types in it', () => {
    expect(readLine('{"msg":1,"name":{},"ref":[],"peer":null}', facts)).toMatchObject({ text: '', name: null, ref: null });
    expect(readLine('{"__proto__":{"msg":"x"},"msg":"y"}', facts).text).toBe('y');
  });

  it('keeps its own reference if that has a legal length', () => {
    expect(readLine('{"msg":"x","ref":"r"}', facts).ref).toBe('r');
    expect(readLine(`{"msg":"x","ref":"${'r'.repeat(65)}"}`, facts).ref).toBeNull();
  });

  it('of ours is what the contract says', () => {
    const say = { peer: 'p', roomId: '1', text: 'hi', name: null, ref: 'r' };
    expect(JSON.parse(lineBody(say))).toEqual({ peer: 'p', roomId: '1', msg: 'hi', ref: 'r' });
    expect(JSON.parse(lineBody({ ...say, name: 'Li Lei' }))).toEqual({ peer: 'p', roomId: '1', msg: 'hi', name: 'Li Lei', ref: 'r' });
    expect(JSON.parse(fenceBody('1', 'r'))).toEqual({ type: 'fence', roomId: '1', ref: 'r' });
  });
});

describe('a command', () => {
  it('leaves out what means everything', () => {
    expect(JSON.parse(muteBody('p', null, null, 'r'))).toEqual({ type: 'shutUp', peer: 'p', ref: 'r' });
    expect(JSON.parse(muteBody('p', '1', 60, 'r'))).toEqual({ type: 'shutUp', peer: 'p', roomId: '1', seconds: 60, ref: 'r' });
    expect(JSON.parse(unmuteBody('p', '1', 'r'))).toEqual({ type: 'unShutUp', peer: 'p', roomId: '1', ref: 'r' });
  });
});

describe('what is said to one client', () => {
  it('is understood', () => {
    expect(readPrivate('{"type":"shutUp"}')).toEqual({ type: 'shutUp', roomId: null, untilMs: null });
    expect(readPrivate('{"type":"shutUp","roomId":1,"until":1700000000000}')).toEqual({
      type: 'shutUp',
      roomId: '1',
      untilMs: 1_700_000_000_000,
    });
    expect(readPrivate('{"type":"unShutUp"}')).toEqual({ type: 'unShutUp', roomId: null });
    expect(readPrivate('{"type":"fence","roomId":"1","ref":"r"}')).toEqual({ type: 'fence', roomId: '1', ref: 'r' });
  });

  it('has a reason from the closed list', () => {
    expect(readPrivate('{"type":"refused","reason":"muted","detail":"d","ref":"r"}')).toMatchObject({
      reason: 'muted',
      detail: 'd',
      ref: 'r',
    });
    expect(readPrivate('{"type":"refused","reason":"<b>"}')).toMatchObject({ reason: 'unknown', ref: null });
  });

  it('is nothing if it is something else', () => {
    for (const body of ['', '1', '{}', '{"type":"fence"}', '{"type":"constructor"}']) expect(readPrivate(body)).toBeNull();
  });
});

describe('presence', () => {
  it('is read from a single event', () => {
    const body = (eventType: string): string => JSON.stringify({ clientId: 'c', time: 1, eventType, channelId: 'x', clientIp: 'y' });
    expect(readPresence(body('connect'), '1')).toEqual({ type: 'one', clientId: 'c', came: true });
    expect(readPresence(body('tcpclean'), '1')).toEqual({ type: 'one', clientId: 'c', came: false });
  });

  it('is read from a single event of this room, and of no other', () => {
    const body = (eventType: string): string => JSON.stringify({ clientId: 'c', time: 1, eventType, roomId: '1', online: 3 });
    for (const event of ['join', 'leave']) {
      expect(readPresence(body(event), '1')).toEqual({ type: 'one', clientId: 'c', came: false });
      expect(readPresence(body(event), '2')).toBeNull();
    }
  });

  it('is read from the part of a summary that is about this room', () => {
    const rooms = [{ roomId: '2', online: 9 }, { roomId: '1', online: 300, joinedCount: 250, leftCount: 3 }, null, 5];
    const body = JSON.stringify({ eventType: 'summary', time: 1, rooms });
    expect(readPresence(body, '1')).toEqual({ type: 'summary', online: 300, changed: true });
    expect(readPresence(body, '3')).toBeNull();
  });
});

describe('a notice', () => {
  it('is for its room only', () => {
    const body = '{"roomId":"1","text":"exam","time":1700000000}';
    expect(readNotice(body, '1', 'n', 0)).toMatchObject({ kind: 'notice', text: 'exam', timeMs: 1_700_000_000_000 });
    expect(readNotice(body, '2', 'n', 0)).toBeNull();
    expect(readNotice('{"roomId":"1"}', '1', 'n', 0)).toBeNull();
  });
});

it('a room has letters, digits, - and _', () => {
  for (const room of ['123456', 'a-b_C', 'x'.repeat(64)]) expect(room).toMatch(ROOM_ID);
  for (const room of ['', '*', 'a||b', '../x', 'a/b', 'x'.repeat(65), 'a b', '1\n']) expect(room).not.toMatch(ROOM_ID);
});
