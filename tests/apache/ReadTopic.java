import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Prints every message of a topic as one line of JSON, queue by queue in the order of the offsets, with Apache's own
 * client. It shares no code with roombridge, so that it can testify about what roombridge stored.
 *
 * Arguments: NAME_SERVER TOPIC [TAG_EXPRESSION]
 */
@SuppressWarnings("deprecation") // The newer client has no plain pull by offset.
public final class ReadTopic {
    private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();
    private static final int MESSAGES_PER_PULL = 1024;

    static void run(String[] arguments, PrintStream out) throws Exception {
        String tags = arguments.length > 2 ? arguments[2] : "*";
        DefaultMQPullConsumer consumer = Programs.consumer(arguments[0]);
        List<MessageQueue> queues = new ArrayList<>(consumer.fetchSubscribeMessageQueues(arguments[1]));
        queues.sort(Comparator.comparing(MessageQueue::getBrokerName).thenComparing(MessageQueue::getQueueId));
        for (MessageQueue queue : queues) {
            print(consumer, queue, tags, out);
        }
    }

    private static void print(DefaultMQPullConsumer consumer, MessageQueue queue, String tags, PrintStream out)
            throws Exception {
        long offset = consumer.minOffset(queue);
        long end = consumer.maxOffset(queue);
        while (offset < end) {
            PullResult result = consumer.pull(queue, tags, offset, MESSAGES_PER_PULL);
            if (result.getMsgFoundList() != null) {
                for (MessageExt message : result.getMsgFoundList()) {
                    if (message.getQueueOffset() < end) {
                        out.println(GSON.toJson(row(message)));
                    }
                }
            }
            if (result.getNextBeginOffset() <= offset) {
                throw new IllegalStateException(queue + " stands still at " + offset + ": " + result);
            }
            offset = result.getNextBeginOffset();
        }
    }

    private static Map<String, Object> row(MessageExt message) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("topic", message.getTopic());
        row.put("tags", message.getTags());
        row.put("keys", message.getKeys());
        row.put("queueId", message.getQueueId());
        row.put("queueOffset", message.getQueueOffset());
        row.put("properties", message.getProperties());
        row.put("bodyBase64", Base64.getEncoder().encodeToString(message.getBody()));
        row.put("storeTimestamp", message.getStoreTimestamp());
        row.put("bornTimestamp", message.getBornTimestamp());
        return row;
    }
}
