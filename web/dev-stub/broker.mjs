// As much of an MQTT 5 broker as the pages need, over WebSocket: exact topics, QoS 1, last will, takeover. For developing
// the pages without a server; it keeps nothing and checks little.

import { generate, parser } from 'mqtt-packet';
import { WebSocketServer } from 'ws';

const TAKEN_OVER = 0x8e;

/** `hooks`: admit(packet) -> reason code, came(clientId, channel), published(clientId, topic, body), gone(clientId, channel). */
export function startBroker(server, path, hooks) {
  const sockets = new WebSocketServer({ server, path, handleProtocols: (offered) => (offered.has('mqtt') ? 'mqtt' : false) });
  const connections = new Map();
  let channels = 0;

  sockets.on('connection', (socket) => {
    channels += 1;
    const connection = { socket, clientId: null, channel: `c${channels}`, topics: new Set(), will: null, nextId: 1 };
    const send = (packet) => socket.readyState === socket.OPEN && socket.send(generate(packet, { protocolVersion: 5 }));
    connection.deliver = (topic, body, userProperties) => {
      connection.nextId = (connection.nextId % 65_535) + 1;
      send({
        cmd: 'publish',
        topic,
        payload: body,
        qos: 1,
        messageId: connection.nextId,
        dup: false,
        retain: false,
        ...(userProperties ? { properties: { userProperties } } : {}),
      });
    };
    connection.end = (reasonCode) => {
      send({ cmd: 'disconnect', reasonCode });
      socket.close();
    };
    const reader = parser({ protocolVersion: 5 });
    reader.on('error', () => socket.terminate());
    reader.on('packet', (packet) => handle(connection, packet, send));
    socket.on('message', (data) => reader.parse(data));
    socket.on('error', () => socket.terminate());
    socket.on('close', () => leave(connection));
  });

  function handle(connection, packet, send) {
    switch (packet.cmd) {
      case 'connect': {
        const reasonCode = hooks.admit(packet);
        send({ cmd: 'connack', reasonCode, sessionPresent: false });
        if (reasonCode !== 0) return connection.socket.close();
        connection.clientId = packet.clientId;
        connection.will = packet.will ?? null;
        connections.get(packet.clientId)?.end(TAKEN_OVER);
        connections.set(packet.clientId, connection);
        return hooks.came(packet.clientId, connection.channel);
      }
      case 'subscribe':
        for (const { topic } of packet.subscriptions) connection.topics.add(topic);
        return send({ cmd: 'suback', messageId: packet.messageId, granted: packet.subscriptions.map(() => 1) });
      case 'publish':
        if (packet.qos === 1) send({ cmd: 'puback', messageId: packet.messageId, reasonCode: 0 });
        return hooks.published(connection.clientId, packet.topic, packet.payload.toString());
      case 'pingreq':
        return send({ cmd: 'pingresp' });
      case 'disconnect':
        connection.will = null;
        return connection.socket.close();
      default:
        return undefined;
    }
  }

  function leave(connection) {
    const { clientId, will } = connection;
    if (clientId === null) return;
    if (connections.get(clientId) === connection) connections.delete(clientId);
    if (will) hooks.published(clientId, will.topic, will.payload.toString());
    hooks.gone(clientId, connection.channel);
  }

  return {
    isOnline: (clientId) => connections.has(clientId),
    toSubscribers(topic, body, properties) {
      for (const one of connections.values()) if (one.topics.has(topic)) one.deliver(topic, body, properties);
    },
    toClient(clientId, topic, body) {
      connections.get(clientId)?.deliver(topic, body);
    },
    close: () => sockets.close(),
  };
}
