import com.google.gson.Gson;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.message.Message;

/**
 * Stores messages with Apache's own client, one after the other, and fails unless each answer is SEND_OK. These are
 * the messages that did not come from MQTT.
 *
 * Arguments: NAME_SERVER FILE; each line of the file: {"topic", "tags", "keys", "properties", "bodyBase64", "compression"}
 */
public final class SendMessages {
    private static final class Row {
        String topic;
        String tags;
        String keys;
        Map<String, String> properties;
        String bodyBase64;
        String compression;
    }

    static void run(String[] arguments) throws Exception {
        DefaultMQProducer producer = Programs.producer(arguments[0]);
        Gson gson = new Gson();
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            Row row = gson.fromJson(line, Row.class);
            producer.setCompressType(CompressionType.of(row.compression == null ? "ZLIB" : row.compression));
            SendResult result = producer.send(message(row));
            if (result.getSendStatus() != SendStatus.SEND_OK) {
                throw new IllegalStateException(result + " for " + line);
            }
        }
    }

    private static Message message(Row row) {
        Message message = new Message(row.topic, Base64.getDecoder().decode(row.bodyBase64));
        if (row.tags != null) {
            message.setTags(row.tags);
        }
        if (row.keys != null) {
            message.setKeys(row.keys);
        }
        row.properties.forEach(message::putUserProperty);
        return message;
    }
}
