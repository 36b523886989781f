// The classroom's rules as the contract has them, in their shortest form, for developing the pages without a server.

const TEACHER = 'GID_teacher@@@';

let ids = 0;

function newId(kind) {
  ids += 1;
  return `${kind}-${ids}`;
}

/** `send`: room(roomId, body, properties), toClient(clientId, body), presence(body), notice(body), isOnline(clientId). */
export function makeClassroom(send, options) {
  const rooms = new Map();
  let mutes = [];

  const room = (roomId) => {
    if (!rooms.has(roomId)) rooms.set(roomId, { lines: [], members: new Map() });
    return rooms.get(roomId);
  };
  const later = (run) => setTimeout(run, options.delayMs);
  const running = () => (mutes = mutes.filter((one) => one.untilMs === null || one.untilMs > Date.now()));
  const muteOf = (clientId, roomId) => running().find((one) => one.clientId === clientId && (one.roomId === null || one.roomId === roomId));

  function refuse(sender, reason, fields, more = {}) {
    const { roomId, ref } = fields;
    send.toClient(sender, JSON.stringify({ type: 'refused', reason, detail: `refused: ${reason}`, roomId, ref, ...more }));
  }

  function message(sender, body, fields) {
    const roomId = String(fields.roomId);
    if (fields.type === 'fence') {
      if (options.fences) send.toClient(sender, JSON.stringify({ type: 'fence', roomId, ref: fields.ref }));
      return;
    }
    if (typeof fields.msg !== 'string') return refuse(sender, 'malformed', fields);
    if (fields.peer !== undefined && fields.peer !== sender) return refuse(sender, 'peer', fields);
    const mute = muteOf(sender, roomId);
    if (mute) return refuse(sender, 'muted', fields, mute.untilMs === null ? {} : { until: mute.untilMs });
    const line = { id: newId('stub'), sender, time: Date.now(), body, kind: 'message' };
    room(roomId).lines.push(line);
    send.room(roomId, body, { rbId: line.id, clientId: sender, rbArrivedMs: String(line.time) });
  }

  function command(sender, fields) {
    const roomId = fields.roomId === undefined ? null : String(fields.roomId);
    if (fields.type === 'hello') return room(roomId).members.set(sender, { name: fields.name ?? null, sinceMs: Date.now() });
    if (fields.type === 'bye') return undefined;
    if (!sender.startsWith(TEACHER)) return refuse(sender, 'not_teacher', fields);
    const others = running().filter((one) => one.clientId !== fields.peer || one.roomId !== roomId);
    if (fields.type === 'shutUp') {
      const untilMs = fields.seconds === undefined ? null : Date.now() + fields.seconds * 1000;
      mutes = [...others, { clientId: fields.peer, roomId, untilMs, by: sender, atMs: Date.now() }];
      return send.toClient(
        fields.peer,
        JSON.stringify({ type: 'shutUp', ...(roomId ? { roomId } : {}), ...(untilMs ? { until: untilMs } : {}) }),
      );
    }
    mutes = others;
    return send.toClient(fields.peer, JSON.stringify({ type: 'unShutUp', ...(roomId ? { roomId } : {}) }));
  }

  return {
    published(sender, topic, body) {
      let fields;
      try {
        fields = JSON.parse(body);
      } catch {
        return refuse(sender, 'malformed', {});
      }
      return later(() => (topic.endsWith('/message') ? message(sender, body, fields) : command(sender, fields)));
    },
    moved(clientId, eventType, channelId) {
      for (const { members } of rooms.values()) if (members.has(clientId)) members.get(clientId).sinceMs = Date.now();
      later(() => send.presence(JSON.stringify({ clientId, time: Date.now(), eventType, channelId, clientIp: '127.0.0.1:1' })));
    },
    notice(roomId, text) {
      later(() => send.notice(JSON.stringify({ roomId, text, time: Date.now() })));
      return { id: newId('notice') };
    },
    history(roomId, limit) {
      const { lines } = room(roomId);
      return { messages: lines.slice(-limit), truncated: lines.length > limit };
    },
    members(roomId) {
      const members = [...room(roomId).members].map(([clientId, { name, sinceMs }]) => {
        const mute = muteOf(clientId, roomId);
        const role = clientId.startsWith(TEACHER) ? 'teacher' : 'student';
        return {
          clientId,
          name,
          role,
          online: send.isOnline(clientId),
          sinceMs,
          muted: Boolean(mute),
          mutedUntilMs: mute?.untilMs ?? null,
        };
      });
      return { online: members.filter((one) => one.online).length, members };
    },
    mutes: (roomId) => ({ mutes: running().filter((one) => one.roomId === null || one.roomId === roomId) }),
  };
}
