package org.cimgateway.connector;

import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.cimgateway.cim.v1.AcceptedMessage;
import org.cimgateway.cim.v1.CimMessage;
import org.cimgateway.cim.v1.MessageServiceGrpc;
import org.cimgateway.cim.v1.NotificationFilter;
import org.cimgateway.cim.v1.SendMessageRequest;
import org.cimgateway.cim.v1.SendMessageResponse;
import org.cimgateway.cim.v1.SubscribeNotificationsRequest;
import org.cimgateway.cim.v1.SubscribeNotificationsResponse;

/** One channel's connector. */
final class Connector implements AutoCloseable {
    /** A message whose outcome is unknown is sent again. It has an id, so the gateway stores it once. */
    private static final Map<String, ?> RETRIES = Map.of("methodConfig", List.of(Map.of(
            "name", List.of(Map.of("service", MessageServiceGrpc.SERVICE_NAME, "method", "SendMessage")),
            "retryPolicy", Map.of(
                    "maxAttempts", 5.0,
                    "initialBackoff", "0.2s",
                    "maxBackoff", "5s",
                    "backoffMultiplier", 2.0,
                    "retryableStatusCodes", List.of("UNAVAILABLE")))));

    final String channelId;
    private final ManagedChannel channel;
    private final MessageServiceGrpc.MessageServiceBlockingStub stub;

    Connector(String server, String apiKey, String channelId) {
        this.channelId = channelId;
        String address = server.replaceFirst("^http://", "");
        channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
                .defaultServiceConfig(RETRIES)
                .enableRetry()
                .keepAliveTime(30, TimeUnit.SECONDS)
                .intercept(MetadataUtils.newAttachHeadersInterceptor(credentials(apiKey)))
                .build();
        stub = MessageServiceGrpc.newBlockingStub(channel).withWaitForReady();
    }

    /** What every call shows: the API key, if there is one. */
    private static Metadata credentials(String apiKey) {
        Metadata headers = new Metadata();
        if (!apiKey.isEmpty()) {
            headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + apiKey);
        }
        return headers;
    }

    SendMessageResponse send(CimMessage message) {
        SendMessageRequest request = SendMessageRequest.newBuilder().setMessage(message).build();
        return stub.withDeadlineAfter(30, TimeUnit.SECONDS).sendMessage(request);
    }

    /**
     * Reads every accepted message of the channel that is selected, after a cursor and over any number of connections, for as long
     * as {@code wantsMore} says so.
     */
    void follow(String after, NotificationFilter selected, Predicate<AcceptedMessage> wantsMore) throws InterruptedException {
        NotificationFilter filter = selected.toBuilder().addServiceIdentifiers(channelId).build();
        while (true) {
            SubscribeNotificationsRequest.Builder request = SubscribeNotificationsRequest.newBuilder().setFilter(filter);
            // Without a start: what is accepted from now on.
            if (!after.isEmpty()) {
                request.setAfterCursor(after);
            }
            try {
                var responses = stub.subscribeNotifications(request.build());
                while (responses.hasNext()) {
                    SubscribeNotificationsResponse response = responses.next();
                    if (response.hasHeartbeat()) {
                        after = response.getHeartbeat().getCursor();
                        Report.heartbeat(after);
                        continue;
                    }
                    if (!wantsMore.test(response.getNotification())) {
                        return;
                    }
                    after = response.getNotification().getCursor();
                }
            } catch (StatusRuntimeException e) {
                if (e.getStatus().getCode() != Status.Code.UNAVAILABLE) {
                    throw e;
                }
                Report.disconnected(after);
                TimeUnit.MILLISECONDS.sleep(500);
            }
        }
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }
}
