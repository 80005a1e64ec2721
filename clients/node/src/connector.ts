// One channel's connector over gRPC.

import { setTimeout as pause } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { credentials, Metadata, status, type ClientReadableStream, type ServiceError } from "@grpc/grpc-js";
import type { CimMessage } from "./gen/cim/v1/message_pb.js";
import {
  MessageService,
  type AcceptedMessage,
  type NotificationFilterSchema,
  type SendMessageResponse,
  type SubscribeNotificationsResponse,
} from "./gen/cim/v1/message_service_pb.js";
import { clientOf } from "./client.js";
import { report } from "./report.js";

// A message whose outcome is unknown is sent again. It has an id, so the gateway stores it once.
const retries = {
  methodConfig: [
    {
      name: [{ service: MessageService.typeName, method: MessageService.method.sendMessage.name }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.2s",
        maxBackoff: "5s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

const MessageClient = clientOf(MessageService);

export class Connector {
  readonly #client;

  constructor(
    server: string,
    readonly apiKey: string,
    readonly channel: string,
  ) {
    this.#client = new MessageClient(server.replace(/^http:\/\//, ""), credentials.createInsecure(), {
      "grpc.service_config": JSON.stringify(retries),
      "grpc.keepalive_time_ms": 30_000,
    });
  }

  close(): void {
    this.#client.close();
  }

  send(message: CimMessage): Promise<SendMessageResponse> {
    return new Promise((resolve, reject) => {
      this.#client["sendMessage"]!(
        { message },
        this.#metadata(),
        { deadline: Date.now() + 30_000 },
        (error: ServiceError | null, answer: SendMessageResponse) => (error ? reject(error) : resolve(answer)),
      );
    });
  }

  // Every accepted message of the channel after a cursor, over any number of connections.
  async *follow(after: string, selected: MessageInitShape<typeof NotificationFilterSchema> = {}): AsyncGenerator<AcceptedMessage> {
    const filter = { ...selected, serviceIdentifiers: [this.channel] };
    for (;;) {
      // Without a start: what is accepted from now on.
      const start = after ? { case: "afterCursor", value: after } : { case: undefined };
      const stream: ClientReadableStream<SubscribeNotificationsResponse> =
        this.#client["subscribeNotifications"]!({ filter, start }, this.#metadata());
      try {
        for await (const { event } of stream as AsyncIterable<SubscribeNotificationsResponse>) {
          if (event.case === "heartbeat") {
            report("heartbeat", { cursor: event.value.cursor });
            after = event.value.cursor;
          } else if (event.case === "notification") {
            yield event.value;
            after = event.value.cursor;
          }
        }
      } catch (error) {
        if ((error as ServiceError).code !== status.UNAVAILABLE) throw error;
        report("disconnected", { cursor: after });
        await pause(500);
      } finally {
        stream.cancel();
      }
    }
  }

  #metadata(): Metadata {
    const metadata = new Metadata({ waitForReady: true });
    if (this.apiKey) metadata.set("authorization", `Bearer ${this.apiKey}`);
    return metadata;
  }
}
