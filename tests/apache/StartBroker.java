import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.broker.BrokerStartup;
import org.apache.rocketmq.common.BrokerConfig;

/**
 * Apache's own broker, unchanged, except that it tells when the name server knows it.
 *
 * Apache's BrokerStartup prints "boot success" even where its first registration came before its connection to the
 * name server was up, and registers again only 10 seconds later; until then clients find no route.
 *
 * Usage: StartBroker -c broker.conf
 */
public final class StartBroker {
    public static void main(String[] arguments) throws Exception {
        BrokerController broker = BrokerStartup.start(BrokerStartup.createBrokerController(arguments));
        BrokerConfig config = broker.getBrokerConfig();
        do {
            broker.registerBrokerAll(true, false, true);
            Thread.sleep(100);
        } while (!isKnown(broker, config));
        System.out.println("the name server knows the broker");
    }

    private static boolean isKnown(BrokerController broker, BrokerConfig config) throws InterruptedException {
        try {
            return broker.getBrokerOuterAPI()
                    .syncBrokerMemberGroup(config.getBrokerClusterName(), config.getBrokerName())
                    .getBrokerAddrs()
                    .containsKey(config.getBrokerId());
        } catch (InterruptedException error) {
            throw error;
        } catch (Exception notYet) {
            return false;
        }
    }
}
