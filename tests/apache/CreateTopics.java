import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Creates topics on one broker and returns when the name server knows them. Apache's mqadmin does the same for one
 * topic, and takes 5 seconds longer to end.
 *
 * Arguments: NAME_SERVER BROKER TOPIC=QUEUES...
 */
public final class CreateTopics {
    static void run(String[] arguments) throws Exception {
        DefaultMQAdminExt admin = Programs.admin(arguments[0]);
        for (int index = 2; index < arguments.length; index++) {
            String[] topic = arguments[index].split("=");
            int queues = Integer.parseInt(topic[1]);
            admin.createAndUpdateTopicConfig(arguments[1], new TopicConfig(topic[0], queues, queues));
            while (!isKnown(admin, topic[0])) {
                Thread.sleep(20);
            }
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
