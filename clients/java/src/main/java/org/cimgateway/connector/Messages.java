package org.cimgateway.connector;

import com.google.protobuf.ListValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.util.Timestamps;
import com.google.protobuf.util.Values;
import java.util.List;
import java.util.UUID;
import org.cimgateway.cim.v1.Body;
import org.cimgateway.cim.v1.ChannelData;
import org.cimgateway.cim.v1.CimMessage;
import org.cimgateway.cim.v1.DeliveryNotificationBody;
import org.cimgateway.cim.v1.DeliveryStatus;
import org.cimgateway.cim.v1.Header;
import org.cimgateway.cim.v1.Location;
import org.cimgateway.cim.v1.LocationBody;
import org.cimgateway.cim.v1.Sender;
import org.cimgateway.cim.v1.SenderType;

/** What this connector says. */
final class Messages {
    private Messages() {}

    /** A message to the gateway on behalf of a customer, or of a bot. */
    static CimMessage message(SenderType type, String channel, String customer) {
        return CimMessage.newBuilder()
                .setId(UUID.randomUUID().toString())
                .setHeader(Header.newBuilder()
                        .setSender(sender(type))
                        .setChannelData(ChannelData.newBuilder()
                                .setChannelCustomerIdentifier(customer)
                                .setServiceIdentifier(channel)
                                .setCustomerFirstName("Zoë")
                                .setRequestPriority(3))
                        .setTimestamp(now()))
                .setBody(place())
                .build();
    }

    /** The notification that a message reached the customer. */
    static CimMessage delivered(CimMessage about) {
        return CimMessage.newBuilder()
                .setId(UUID.randomUUID().toString())
                .setHeader(Header.newBuilder()
                        .setSender(sender(SenderType.SENDER_TYPE_CONNECTOR))
                        .setChannelData(about.getHeader().getChannelData())
                        .setChannelSessionId(about.getHeader().getChannelSessionId())
                        .setConversationId(about.getHeader().getConversationId())
                        .setTimestamp(now()))
                .setBody(Body.newBuilder().setDeliveryNotification(DeliveryNotificationBody.newBuilder()
                        .setMessageId(about.getId())
                        .setStatus(DeliveryStatus.DELIVERY_STATUS_DELIVERED)
                        .setReasonCode("200")))
                .build();
    }

    private static Sender sender(SenderType type) {
        return Sender.newBuilder()
                .setId("java-1")
                .setType(type)
                .setSenderName("JAVA_CONNECTOR")
                .setAdditionalDetail(additionalDetail())
                .build();
    }

    /** What else is known of the sender. */
    private static Struct additionalDetail() {
        return Struct.newBuilder()
                .putFields("software", Values.of("java"))
                .putFields("score", Values.of(0.75))
                .putFields("visits", Values.of(3))
                .putFields("vip", Values.of(true))
                .putFields("referrer", Values.ofNull())
                .putFields("tags", Values.of(List.of(Values.of("new"), Values.of("web"))))
                .putFields("device", Values.of(Struct.newBuilder()
                        .putFields("os", Values.of("Linux"))
                        .putFields("width", Values.of(1080))
                        .build()))
                .build();
    }

    /** A place, and what is there. */
    private static Body place() {
        Struct details = Struct.newBuilder()
                .putFields("name", Values.of("Café Zimt ☕"))
                .putFields("address", Values.of("Große Straße 7, Köln"))
                .putFields("url", Values.of("https://cafe.example.org"))
                .putFields("hours", Values.of(ListValue.newBuilder()
                        .addValues(Values.of(8))
                        .addValues(Values.of(18.5))
                        .build()))
                .build();
        return Body.newBuilder()
                .setMarkdownText("Meet me here")
                .setLocation(LocationBody.newBuilder()
                        .setLocation(Location.newBuilder().setLatitude(50.9375).setLongitude(-6.25))
                        .setAdditionalDetails(Values.of(details)))
                .build();
    }

    private static Timestamp now() {
        return Timestamps.fromMillis(System.currentTimeMillis());
    }
}
