package org.cimgateway.connector;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.cimgateway.cim.v1.AcceptedMessage;
import org.cimgateway.cim.v1.CimMessage;
import org.cimgateway.cim.v1.SendMessageResponse;

/** Lines of JSON on standard output. */
final class Report {
    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Report() {}

    static void heartbeat(String cursor) {
        JsonObject line = event("heartbeat");
        line.addProperty("cursor", cursor);
        print(line);
    }

    static void disconnected(String cursor) {
        JsonObject line = event("disconnected");
        line.addProperty("cursor", cursor);
        print(line);
    }

    static void sent(SendMessageResponse answer) {
        JsonObject line = event("sent");
        line.addProperty("messageId", answer.getMessageId());
        line.addProperty("conversationId", answer.getConversationId());
        line.addProperty("duplicate", answer.getDuplicate());
        print(line);
    }

    static void message(AcceptedMessage accepted) {
        JsonObject line = event("message");
        line.addProperty("cursor", accepted.getCursor());
        line.add("message", json(accepted.getMessage()));
        print(line);
    }

    static void answered(AcceptedMessage accepted, SendMessageResponse notification) {
        JsonObject line = event("answered");
        line.addProperty("messageId", accepted.getMessage().getId());
        line.addProperty("notificationId", notification.getMessageId());
        line.addProperty("cursor", accepted.getCursor());
        print(line);
    }

    private static JsonObject event(String name) {
        JsonObject line = new JsonObject();
        line.addProperty("event", name);
        return line;
    }

    private static JsonElement json(CimMessage message) {
        try {
            return JsonParser.parseString(JsonFormat.printer().print(message));
        } catch (InvalidProtocolBufferException e) {
            throw new IllegalStateException("a message always has a JSON form", e);
        }
    }

    private static void print(JsonObject line) {
        OUT.println(GSON.toJson(line));
    }
}
