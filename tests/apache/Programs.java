import com.google.gson.Gson;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Runs the small programs of this folder for the tests, in one process: each would take 2 seconds to start alone.
 *
 * Prints "port N". A connection to that port sends one line of JSON, {"program", "arguments"}, and gets the program's
 * output, and a last line: "=ok", or a stack trace and "=failed". Each call has a client of its own, as if it were a
 * process of its own, so that nothing of an earlier broker or route is left.
 *
 * Usage: Programs
 */
public final class Programs {
    private static final class Call {
        String program;
        String[] arguments;
    }

    private static final AtomicInteger CLIENTS = new AtomicInteger();
    /** The clients of the call that this thread serves end with it. */
    private static final ThreadLocal<Runnable> SHUTDOWN = new ThreadLocal<>();

    public static void main(String[] arguments) throws Exception {
        try (ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            System.out.println("port " + listener.getLocalPort());
            while (true) {
                Socket connection = listener.accept();
                new Thread(() -> serve(connection)).start();
            }
        }
    }

    private static void serve(Socket connection) {
        try (connection;
                PrintStream out = new PrintStream(
                        new BufferedOutputStream(connection.getOutputStream(), 1 << 20), false, StandardCharsets.UTF_8)) {
            BufferedReader in =
                    new BufferedReader(new InputStreamReader(connection.getInputStream(), StandardCharsets.UTF_8));
            try {
                run(new Gson().fromJson(in.readLine(), Call.class), out);
                out.println("=ok");
            } catch (Throwable error) {
                error.printStackTrace(out);
                out.println("=failed");
            }
        } catch (java.io.IOException gone) {
            gone.printStackTrace();
        } finally {
            // It takes a moment for which no test needs to wait.
            if (SHUTDOWN.get() != null) {
                SHUTDOWN.get().run();
            }
        }
    }

    private static void run(Call call, PrintStream out) throws Exception {
        switch (call.program) {
            case "CreateTopics" -> CreateTopics.run(call.arguments);
            case "ReadBodies" -> ReadBodies.run(call.arguments, out);
            case "ReadTopic" -> ReadTopic.run(call.arguments, out);
            case "RemakeTopic" -> RemakeTopic.run(call.arguments);
            case "SendMessages" -> SendMessages.run(call.arguments);
            default -> throw new IllegalArgumentException("no program " + call.program);
        }
    }

    @SuppressWarnings("deprecation") // The newer client has no plain pull by offset.
    static DefaultMQPullConsumer consumer(String nameServer) throws Exception {
        String name = name();
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("read_" + name);
        consumer.setInstanceName(name);
        consumer.setNamesrvAddr(nameServer);
        consumer.start();
        SHUTDOWN.set(consumer::shutdown);
        return consumer;
    }

    static DefaultMQProducer producer(String nameServer) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("send_messages");
        producer.setInstanceName(name());
        // A busy machine is not what is tried here.
        producer.setSendMsgTimeout(20_000);
        producer.setNamesrvAddr(nameServer);
        producer.start();
        SHUTDOWN.set(producer::shutdown);
        return producer;
    }

    static DefaultMQAdminExt admin(String nameServer) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setInstanceName(name());
        admin.setNamesrvAddr(nameServer);
        admin.start();
        SHUTDOWN.set(admin::shutdown);
        return admin;
    }

    /** No two clients share connections and routes. */
    private static String name() {
        return ProcessHandle.current().pid() + "-" + CLIENTS.incrementAndGet();
    }
}
