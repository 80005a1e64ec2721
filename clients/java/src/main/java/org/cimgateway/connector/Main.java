package org.cimgateway.connector;

import io.grpc.StatusRuntimeException;
import java.util.concurrent.atomic.AtomicInteger;
import org.cimgateway.cim.v1.Audience;
import org.cimgateway.cim.v1.NotificationFilter;
import org.cimgateway.cim.v1.SenderType;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** A connector over gRPC: sends a message, follows the stream, and reports what it delivered. */
@Command(name = "connector", description = "A connector over gRPC.")
public final class Main {
    /** Who says a message. */
    enum Speaker {
        connector(SenderType.SENDER_TYPE_CONNECTOR),
        bot(SenderType.SENDER_TYPE_BOT);

        final SenderType type;

        Speaker(SenderType type) {
            this.type = type;
        }
    }

    static final class Common {
        @Option(names = "--server", paramLabel = "URL", defaultValue = "${env:CIM_SERVER:-http://127.0.0.1:50051}")
        String server;

        @Option(names = "--channel", paramLabel = "ID", defaultValue = "6655", description = "service identifier of the channel")
        String channel;

        Connector connect() {
            return new Connector(server, System.getenv().getOrDefault("CIM_API_KEY", ""), channel);
        }
    }

    static final class Reading {
        @Option(names = "--after", paramLabel = "CURSOR", defaultValue = "", description = "where to go on; else from now on")
        String after;

        @Option(names = "--count", paramLabel = "N", defaultValue = "0", description = "end after N messages; else never")
        int count;
    }

    @Command(description = "send one message")
    void send(
            @Mixin Common common,
            @Option(names = "--customer", paramLabel = "ID", defaultValue = "4915112345678") String customer,
            @Option(names = "--sender", defaultValue = "connector") Speaker sender) {
        try (Connector connector = common.connect()) {
            Report.sent(connector.send(Messages.message(sender.type, connector.channelId, customer)));
        }
    }

    @Command(description = "show what is accepted")
    void follow(@Mixin Common common, @Mixin Reading reading) throws InterruptedException {
        AtomicInteger left = new AtomicInteger(reading.count);
        try (Connector connector = common.connect()) {
            connector.follow(reading.after, NotificationFilter.getDefaultInstance(), accepted -> {
                Report.message(accepted);
                return left.decrementAndGet() != 0;
            });
        }
    }

    /** Where a real connector hands the message to its channel, and reports what the channel says. */
    @Command(description = "report deliveries")
    void answer(@Mixin Common common, @Mixin Reading reading) throws InterruptedException {
        AtomicInteger left = new AtomicInteger(reading.count);
        NotificationFilter forCustomers = NotificationFilter.newBuilder().addAudiences(Audience.AUDIENCE_CUSTOMER).build();
        try (Connector connector = common.connect()) {
            connector.follow(reading.after, forCustomers, accepted -> {
                // Notifications are events of the session: nobody waits to hear of their delivery.
                if (accepted.getMessage().getBody().hasNotification()) {
                    return true;
                }
                Report.answered(accepted, connector.send(Messages.delivered(accepted.getMessage())));
                return left.decrementAndGet() != 0;
            });
        }
    }

    public static void main(String[] args) {
        CommandLine commands = new CommandLine(new Main());
        commands.setExecutionExceptionHandler((e, command, parsed) -> {
            if (e instanceof StatusRuntimeException status) {
                System.err.println(status.getStatus());
                return 1;
            }
            throw e;
        });
        System.exit(commands.execute(args));
    }
}
