"""A connector over gRPC: sends a message, follows the stream, and reports what it delivered."""

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value

from cim.v1 import body_pb2 as body
from cim.v1 import header_pb2 as header
from cim.v1 import message_pb2 as message
from cim.v1 import message_service_pb2 as service
from cim.v1.message_service_pb2_grpc import MessageServiceStub

# A message whose outcome is unknown is sent again. It has an id, so the gateway stores it once.
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "cim.v1.MessageService", "method": "SendMessage"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
OPTIONS = [("grpc.service_config", json.dumps(RETRIES)), ("grpc.keepalive_time_ms", 30_000)]


def free_form(value: object) -> Value:
    """Any JSON as a protobuf Value."""
    return ParseDict(value, Value())


def rich_body() -> body.Body:
    """A template that the channel's provider fills in."""
    return body.Body(
        markdown_text="Your order **4711** is on its way 🚲",
        template=body.TemplateBody(
            template_namespace="shop",
            name="order_shipped",
            language=body.TemplateLanguage(code="de_DE", policy="deterministic"),
            components=[
                body.TemplateComponent(
                    type=body.COMPONENT_TYPE_HEADER,
                    parameters=[
                        body.TemplateParameter(
                            parameter_type=body.PARAMETER_TYPE_IMAGE,
                            additional_parameter_details=free_form({"link": "https://shop.example.org/4711.png"}),
                        )
                    ],
                ),
                body.TemplateComponent(
                    type=body.COMPONENT_TYPE_BODY,
                    parameters=[
                        body.TemplateParameter(
                            parameter_type=body.PARAMETER_TYPE_CURRENCY,
                            additional_parameter_details=free_form({"code": "EUR", "amount_1000": 49950}),
                        )
                    ],
                ),
            ],
            additional_details=free_form({"category": "UTILITY"}),
        ),
    )


def additional_detail() -> Struct:
    """What else is known of the sender."""
    detail = Struct()
    detail.update(
        {
            "software": "python",
            "score": 0.75,
            "visits": 3,
            "vip": True,
            "referrer": None,
            "tags": ["new", "web"],
            "device": {"os": "Linux", "width": 1080},
        }
    )
    return detail


def sender(kind: header.SenderType) -> header.Sender:
    return header.Sender(
        id="python-1", type=kind, sender_name="PYTHON_CONNECTOR", additional_detail=additional_detail()
    )


class Connector:
    """One channel's connector."""

    def __init__(self, server: str, api_key: str, channel: str):
        self.stub = MessageServiceStub(grpc.insecure_channel(server.removeprefix("http://"), OPTIONS))
        self.metadata = [("authorization", f"Bearer {api_key}")] if api_key else []
        self.channel = channel

    def send(self, sent: message.CimMessage) -> service.SendMessageResponse:
        request = service.SendMessageRequest(message=sent)
        return self.stub.SendMessage(request, timeout=30, metadata=self.metadata, wait_for_ready=True)

    def follow(self, after: str, **selected) -> Iterator[service.AcceptedMessage]:
        """Every accepted message of the channel after a cursor, over any number of connections."""
        selection = service.NotificationFilter(service_identifiers=[self.channel], **selected)
        while True:
            # Without a cursor, oneof `start` stays unset: what is accepted from now on.
            request = service.SubscribeNotificationsRequest(filter=selection, after_cursor=after or None)
            try:
                for response in self.stub.SubscribeNotifications(request, metadata=self.metadata, wait_for_ready=True):
                    if response.HasField("heartbeat"):
                        report("heartbeat", cursor=response.heartbeat.cursor)
                        after = response.heartbeat.cursor
                    else:
                        yield response.notification
                        after = response.notification.cursor
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                report("disconnected", cursor=after)
                time.sleep(0.5)

    def message(self, customer: str, kind: header.SenderType) -> message.CimMessage:
        """A message to the gateway on behalf of a customer, or of a bot."""
        sent = message.CimMessage(
            id=str(uuid.uuid4()),
            header=header.Header(
                sender=sender(kind),
                channel_data=header.ChannelData(
                    channel_customer_identifier=customer,
                    service_identifier=self.channel,
                    customer_first_name="Zoë",
                    request_priority=3,
                ),
            ),
            body=rich_body(),
        )
        sent.header.timestamp.FromMilliseconds(time.time_ns() // 1_000_000)
        return sent


def delivered(accepted: service.AcceptedMessage) -> message.CimMessage:
    """The notification that a message reached the customer."""
    about = accepted.message
    notification = message.CimMessage(
        id=str(uuid.uuid4()),
        header=header.Header(
            sender=sender(header.SENDER_TYPE_CONNECTOR),
            channel_data=about.header.channel_data,
            channel_session_id=about.header.channel_session_id,
            conversation_id=about.header.conversation_id,
        ),
        body=body.Body(
            delivery_notification=body.DeliveryNotificationBody(
                message_id=about.id, status=body.DELIVERY_STATUS_DELIVERED, reason_code="200"
            )
        ),
    )
    notification.header.timestamp.FromMilliseconds(time.time_ns() // 1_000_000)
    return notification


def report(event: str, **fields) -> None:
    """One line of JSON on standard output."""
    print(json.dumps({"event": event, **fields}, ensure_ascii=False), flush=True)


def send(connector: Connector, options: argparse.Namespace) -> None:
    kind = header.SENDER_TYPE_BOT if options.sender == "bot" else header.SENDER_TYPE_CONNECTOR
    answer = connector.send(connector.message(options.customer, kind))
    report("sent", messageId=answer.message_id, conversationId=answer.conversation_id, duplicate=answer.duplicate)


def follow(connector: Connector, options: argparse.Namespace) -> None:
    for number, accepted in enumerate(connector.follow(options.after), start=1):
        report("message", cursor=accepted.cursor, message=MessageToDict(accepted.message))
        if number == options.count:
            return


def answer(connector: Connector, options: argparse.Namespace) -> None:
    """Where a real connector hands the message to its channel, and reports what the channel says."""
    answered = 0
    for accepted in connector.follow(options.after, audiences=[service.AUDIENCE_CUSTOMER]):
        # Notifications are events of the session: nobody waits to hear of their delivery.
        if accepted.message.body.WhichOneof("kind") == "notification":
            continue
        notification = connector.send(delivered(accepted))
        report("answered", messageId=accepted.message.id, notificationId=notification.message_id, cursor=accepted.cursor)
        answered += 1
        if answered == options.count:
            return


def main() -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--server", default=os.environ.get("CIM_SERVER", "http://127.0.0.1:50051"), metavar="URL")
    common.add_argument("--channel", default="6655", metavar="ID", help="service identifier of the channel")
    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument("--after", default="", metavar="CURSOR", help="where to go on; else from now on")
    reading.add_argument("--count", type=int, default=0, metavar="N", help="end after N messages; else never")

    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    sending = commands.add_parser("send", parents=[common], help="send one message")
    sending.add_argument("--customer", default="4915112345678", metavar="ID", help="the customer's address on the channel")
    sending.add_argument("--sender", choices=["connector", "bot"], default="connector", help="who says it")
    sending.set_defaults(run=send)
    commands.add_parser("follow", parents=[common, reading], help="show what is accepted").set_defaults(run=follow)
    commands.add_parser("answer", parents=[common, reading], help="report deliveries").set_defaults(run=answer)

    options = parser.parse_args()
    try:
        options.run(Connector(options.server, os.environ.get("CIM_API_KEY", ""), options.channel), options)
    except grpc.RpcError as error:
        sys.exit(f"{options.server}: {error.code().name}: {error.details()}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
