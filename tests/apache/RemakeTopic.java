import java.util.Set;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Deletes a topic, as an administrator does, and makes it anew under the same name, as fast as that goes. Its offsets
 * begin with 0 again.
 *
 * Arguments: NAME_SERVER BROKER TOPIC QUEUES
 */
public final class RemakeTopic {
    static void run(String[] arguments) throws Exception {
        String nameServer = arguments[0];
        String broker = arguments[1];
        String topic = arguments[2];
        int queues = Integer.parseInt(arguments[3]);
        DefaultMQAdminExt admin = Programs.admin(nameServer);
        admin.deleteTopicInBroker(Set.of(broker), topic);
        admin.deleteTopicInNameServer(Set.of(nameServer), topic);
        admin.createAndUpdateTopicConfig(broker, new TopicConfig(topic, queues, queues));
        while (!isKnown(admin, topic)) {
            Thread.sleep(20);
        }
    }

    private static boolean isKnown(DefaultMQAdminExt admin, String topic) throws Exception {
        try {
            return !admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty();
        } catch (MQClientException noRoute) {
            return false;
        }
    }
}
