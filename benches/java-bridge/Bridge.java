import java.util.concurrent.Semaphore;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/**
 * The bridge that a user would write by hand, as a yardstick: Eclipse Paho in, Apache's Java client out, each message sent
 * alone and asynchronously, PUBACK after SEND_OK. It has no retry, no order of a room, no spool and no metrics.
 *
 * Arguments: MQTT_URI NAME_SERVER ROCKETMQ_TOPIC. Prints READY when it is subscribed.
 */
public final class Bridge implements MqttCallback {
    private static final int SENDS_IN_FLIGHT = 1000;

    private final DefaultMQProducer producer = new DefaultMQProducer("java_bridge");
    private final Semaphore sends = new Semaphore(SENDS_IN_FLIGHT);
    private final MqttAsyncClient mqtt;
    private final String topic;

    public static void main(String[] arguments) throws Exception {
        new Bridge(arguments[0], arguments[2]).start(arguments[1]);
    }

    private Bridge(String mqttUri, String topic) throws MqttException {
        this.topic = topic;
        mqtt = new MqttAsyncClient(mqttUri, "java-bridge", new MemoryPersistence());
        mqtt.setManualAcks(true);
        mqtt.setCallback(this);
    }

    private void start(String nameServer) throws Exception {
        producer.setNamesrvAddr(nameServer);
        producer.start();
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setCleanStart(false);
        options.setSessionExpiryInterval(3600L);
        options.setAutomaticReconnect(true);
        options.setReceiveMaximum(1000);
        mqtt.connect(options).waitForCompletion();
        mqtt.subscribe("room/#", 1).waitForCompletion();
        System.out.println("READY");
    }

    @Override
    public void messageArrived(String mqttTopic, MqttMessage arrived) throws Exception {
        int slash = mqttTopic.indexOf('/');
        Message message = new Message(topic, mqttTopic.substring(slash + 1), arrived.getPayload());
        message.putUserProperty("mqttSecondTopic", mqttTopic.substring(slash));
        message.putUserProperty("qoslevel", String.valueOf(arrived.getQos()));
        sends.acquire();
        producer.send(message, new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                sends.release();
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    acknowledge(arrived);
                }
            }

            @Override
            public void onException(Throwable failure) {
                sends.release();
                System.err.println("send failed: " + failure);
            }
        });
    }

    private void acknowledge(MqttMessage message) {
        try {
            mqtt.messageArrivedComplete(message.getId(), message.getQos());
        } catch (MqttException failure) {
            System.err.println("PUBACK failed: " + failure);
        }
    }

    @Override
    public void disconnected(MqttDisconnectResponse response) {
        System.err.println("disconnected: " + response);
    }

    @Override
    public void mqttErrorOccurred(MqttException failure) {
        System.err.println("error: " + failure);
    }

    @Override
    public void deliveryComplete(IMqttToken token) {}

    @Override
    public void connectComplete(boolean reconnect, String uri) {}

    @Override
    public void authPacketArrived(int reasonCode, MqttProperties properties) {}
}
