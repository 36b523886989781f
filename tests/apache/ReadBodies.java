import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Prints where every message of a topic lies, and its body, with Apache's own client: broker, queue, offset, rbId and
 * body, tab separated. A body of printable ASCII comes as "t" and itself, another as "b" and base64.
 *
 * Arguments: NAME_SERVER TOPIC
 */
@SuppressWarnings("deprecation") // The newer client has no plain pull by offset.
public final class ReadBodies {
    static void run(String[] arguments, PrintStream out) throws Exception {
        DefaultMQPullConsumer consumer = Programs.consumer(arguments[0]);
        List<MessageQueue> queues = new ArrayList<>();
        try {
            queues.addAll(consumer.fetchSubscribeMessageQueues(arguments[1]));
        } catch (MQClientException noRoute) {
            return;
        }
        queues.sort(Comparator.comparing(MessageQueue::getBrokerName).thenComparing(MessageQueue::getQueueId));
        for (MessageQueue queue : queues) {
            print(consumer, queue, out);
        }
    }

    private static void print(DefaultMQPullConsumer consumer, MessageQueue queue, PrintStream out) throws Exception {
        long offset = consumer.minOffset(queue);
        long end = consumer.maxOffset(queue);
        while (offset < end) {
            PullResult result = consumer.pull(queue, "*", offset, 1024);
            if (result.getMsgFoundList() != null) {
                for (MessageExt message : result.getMsgFoundList()) {
                    if (message.getQueueOffset() < end) {
                        out.print(queue.getBrokerName() + '\t' + queue.getQueueId() + '\t' + message.getQueueOffset()
                                + '\t' + orEmpty(message.getUserProperty("rbId")) + '\t' + text(message.getBody()) + '\n');
                    }
                }
            }
            if (result.getNextBeginOffset() <= offset) {
                throw new IllegalStateException(queue + " stands still at " + offset + ": " + result);
            }
            offset = result.getNextBeginOffset();
        }
    }

    private static String orEmpty(String value) {
        return value == null ? "" : value;
    }

    private static String text(byte[] body) {
        for (byte one : body) {
            if (one < ' ' || one > '~') {
                return 'b' + Base64.getEncoder().encodeToString(body);
            }
        }
        return 't' + new String(body, StandardCharsets.US_ASCII);
    }
}
