import java.util.Set;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Deletes a topic, as an administrator does, and makes it anew under the same name, as fast as that goes. Its offsets
 * begin with 0 again.
 *
 * Usage: RemakeTopic NAME_SERVER BROKER TOPIC QUEUES
 */
public final class RemakeTopic {
    public static void main(String[] arguments) {
        int status = 1;
        try {
            remake(arguments[0], arguments[1], arguments[2], Integer.parseInt(arguments[3]));
            status = 0;
        } catch (Throwable error) {
            error.printStackTrace();
        }
        // The client's threads would hold the process for seconds.
        Runtime.getRuntime().halt(status);
    }

    private static void remake(String nameServer, String broker, String topic, int queues) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(nameServer);
        admin.start();
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
