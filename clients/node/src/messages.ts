// What this connector says.

import { randomUUID } from "node:crypto";
import { create, fromJson, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, ValueSchema } from "@bufbuild/protobuf/wkt";
import { BodySchema, CarouselMessageType, DeliveryStatus } from "./gen/cim/v1/body_pb.js";
import { SenderSchema, SenderType } from "./gen/cim/v1/header_pb.js";
import { CimMessageSchema, type CimMessage } from "./gen/cim/v1/message_pb.js";

// What else is known of the sender.
const additionalDetail: JsonObject = {
  software: "node",
  score: 0.75,
  visits: 3,
  vip: true,
  referrer: null,
  tags: ["new", "web"],
  device: { os: "Linux", width: 1080 },
};

// A row of cards.
const richBody: MessageInitShape<typeof BodySchema> = {
  markdownText: "New in our shop 🛍",
  kind: {
    case: "carousel",
    value: {
      carouselMessageType: CarouselMessageType.GENERIC_RICH_MEDIA,
      elements: [
        {
          text: "City bike",
          url: "https://shop.example.org/bike.png",
          buttons: [{ title: "Buy", payload: "BUY_BIKE", type: "postback", additionalButtonDetails: freeForm({ stock: 7 }) }],
          defaultAction: { type: "web_url", url: "https://shop.example.org/bike" },
          additionalCarouselElementDetails: freeForm({ price: 499.5, colours: ["red", "black"] }),
        },
        { text: "Helmet", buttons: [{ title: "Buy", payload: "BUY_HELMET", type: "postback" }] },
      ],
      additionalDetails: freeForm({ layout: "wide" }),
    },
  },
};

function sender(type: SenderType): MessageInitShape<typeof SenderSchema> {
  return { id: "node-1", type, senderName: "NODE_CONNECTOR", additionalDetail };
}

// A message to the gateway on behalf of a customer, or of a bot.
export function message(type: SenderType, channel: string, customer: string): CimMessage {
  return create(CimMessageSchema, {
    id: randomUUID(),
    header: {
      sender: sender(type),
      channelData: {
        channelCustomerIdentifier: customer,
        serviceIdentifier: channel,
        customerFirstName: "Zoë",
        requestPriority: 3,
      },
      timestamp: timestampFromMs(Date.now()),
    },
    body: richBody,
  });
}

// The notification that a message reached the customer.
export function delivered(about: CimMessage): CimMessage {
  return create(CimMessageSchema, {
    id: randomUUID(),
    header: {
      sender: sender(SenderType.CONNECTOR),
      channelData: about.header?.channelData,
      channelSessionId: about.header?.channelSessionId,
      conversationId: about.header?.conversationId,
      timestamp: timestampFromMs(Date.now()),
    },
    body: {
      kind: {
        case: "deliveryNotification",
        value: { messageId: about.id, status: DeliveryStatus.DELIVERED, reasonCode: "200" },
      },
    },
  });
}

// Any JSON as a protobuf Value.
function freeForm(json: JsonObject) {
  return fromJson(ValueSchema, json);
}
