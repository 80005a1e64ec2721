// A connector over gRPC: sends a message, follows the stream, and reports what it delivered.

import { parseArgs } from "node:util";
import { toJson } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import { SenderType } from "./gen/cim/v1/header_pb.js";
import { CimMessageSchema } from "./gen/cim/v1/message_pb.js";
import { Audience } from "./gen/cim/v1/message_service_pb.js";
import { Connector } from "./connector.js";
import { delivered, message } from "./messages.js";
import { report } from "./report.js";

const usage = `usage: connector send   [--customer ID] [--sender connector|bot]
       connector follow [--after CURSOR] [--count N]
       connector answer [--after CURSOR] [--count N]
Options of all: --server URL, --channel ID`;

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string", default: process.env.CIM_SERVER ?? "http://127.0.0.1:50051" },
    channel: { type: "string", default: "6655" },
    customer: { type: "string", default: "4915112345678" },
    sender: { type: "string", default: "connector" },
    after: { type: "string", default: "" },
    count: { type: "string", default: "0" },
  },
});

async function send(connector: Connector): Promise<void> {
  const type = options.sender === "bot" ? SenderType.BOT : SenderType.CONNECTOR;
  const { messageId, conversationId, duplicate } = await connector.send(message(type, connector.channel, options.customer));
  report("sent", { messageId, conversationId, duplicate });
}

async function follow(connector: Connector): Promise<void> {
  let left = Number(options.count);
  for await (const accepted of connector.follow(options.after)) {
    report("message", { cursor: accepted.cursor, message: toJson(CimMessageSchema, accepted.message!) });
    if (--left === 0) return;
  }
}

// Where a real connector hands the message to its channel, and reports what the channel says.
async function answer(connector: Connector): Promise<void> {
  let left = Number(options.count);
  for await (const accepted of connector.follow(options.after, { audiences: [Audience.CUSTOMER] })) {
    const about = accepted.message!;
    // Notifications are events of the session: nobody waits to hear of their delivery.
    if (about.body?.kind.case === "notification") continue;
    const notification = await connector.send(delivered(about));
    report("answered", { messageId: about.id, notificationId: notification.messageId, cursor: accepted.cursor });
    if (--left === 0) return;
  }
}

const command = new Map([["send", send], ["follow", follow], ["answer", answer]]).get(positionals[0] ?? "");
if (!command) {
  console.error(usage);
  process.exit(64);
}
const connector = new Connector(options.server, process.env.CIM_API_KEY ?? "", options.channel);
try {
  await command(connector);
} catch (error) {
  console.error(`${options.server}: ${(error as ServiceError).details ?? error}`);
  process.exitCode = 1;
} finally {
  connector.close();
}
