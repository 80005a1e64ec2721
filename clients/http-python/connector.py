#!/usr/bin/env python3
"""A connector over plain HTTP: posts a message, follows the event stream, and reports what it delivered."""

import argparse
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator

# Above the gateway's heartbeat (15 s): silence for longer means that the connection is dead.
SILENCE = 40
ATTEMPTS = 20
PAUSE = 0.5

# Two contact cards.
RICH_BODY = {
    "type": "CONTACT",
    "markdownText": "Call us 📞",
    "additionalDetails": {"source": "crm"},
    "contacts": [
        {
            "name": {"formattedName": "Łucja Żak", "additionalNameDetails": {"prefix": "Dr."}},
            "phones": [{"phone": "+49 30 1234567", "additionalPhoneDetails": {"type": "WORK", "wa_id": "49301234567"}}],
            "additionalContactDetails": {"org": {"company": "Fahrrad & Söhne"}, "urls": ["https://shop.example.org"]},
        },
        {"name": {"formattedName": "Night desk"}, "phones": [{"phone": "112"}]},
    ],
}

# What else is known of the sender.
ADDITIONAL_DETAIL = {
    "software": "http-python",
    "score": 0.75,
    "visits": 3,
    "vip": True,
    "referrer": None,
    "tags": ["new", "web"],
    "device": {"os": "Linux", "width": 1080},
}


def sender(kind: str) -> dict:
    return {"id": "http-1", "type": kind, "senderName": "HTTP_CONNECTOR", "additionalDetail": ADDITIONAL_DETAIL}


class Connector:
    """One channel's connector."""

    def __init__(self, server: str, api_key: str, channel: str):
        self.server = server.rstrip("/")
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.channel = channel

    def send(self, message: dict) -> dict:
        """Posts a message. One whose outcome is unknown is posted again: it has an id, so the gateway stores it once."""
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(f"{self.server}/ccm/message/receive", json.dumps(message).encode(), headers)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or attempt == ATTEMPTS:
                    raise
            except (OSError, http.client.HTTPException):
                if attempt == ATTEMPTS:
                    raise
            time.sleep(PAUSE)

    def follow(self, after: str, **selected: str) -> Iterator[dict]:
        """Every accepted message of the channel after a cursor, over any number of connections."""
        while True:
            query = {"serviceIdentifier": self.channel, **selected}
            # Without a start: what is accepted from now on.
            if after:
                query["after"] = after
            url = f"{self.server}/v1/notifications?{urllib.parse.urlencode(query)}"
            request = urllib.request.Request(url, headers=self.headers)
            try:
                with urllib.request.urlopen(request, timeout=SILENCE) as stream:
                    for name, data in events(stream):
                        if name == "heartbeat":
                            report("heartbeat", cursor=data["cursor"])
                        elif name == "message":
                            yield data
                        else:
                            # The gateway says why it ends the stream; that it shuts down is no reason to give up.
                            break
                        after = data["cursor"]
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
            except (OSError, http.client.HTTPException):
                pass
            report("disconnected", cursor=after)
            time.sleep(PAUSE)

    def message(self, customer: str, kind: str) -> dict:
        """A message to the gateway on behalf of a customer, or of a bot."""
        return {
            "id": str(uuid.uuid4()),
            "header": {
                "sender": sender(kind),
                "channelData": {
                    "channelCustomerIdentifier": customer,
                    "serviceIdentifier": self.channel,
                    "customerFirstName": "Zoë",
                    "requestPriority": 3,
                },
                "timestamp": now(),
            },
            "body": RICH_BODY,
        }


def events(stream) -> Iterator[tuple[str, dict]]:
    """The server-sent events of a stream: name and data."""
    name = ""
    for line in stream:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def delivered(about: dict) -> dict:
    """The notification that a message reached the customer."""
    header = {key: about["header"][key] for key in ("channelData", "channelSessionId", "conversationId")}
    return {
        "id": str(uuid.uuid4()),
        "header": {"sender": sender("CONNECTOR"), **header, "timestamp": now()},
        "body": {"type": "DELIVERYNOTIFICATION", "messageId": about["id"], "status": "DELIVERED", "reasonCode": 200},
    }


def now() -> int:
    return time.time_ns() // 1_000_000


def report(event: str, **fields) -> None:
    """One line of JSON on standard output."""
    print(json.dumps({"event": event, **fields}, ensure_ascii=False), flush=True)


def send(connector: Connector, options: argparse.Namespace) -> None:
    answer = connector.send(connector.message(options.customer, options.sender.upper()))
    report(
        "sent",
        messageId=answer["messageId"],
        conversationId=answer["conversationId"],
        duplicate=answer.get("duplicate", False),
    )


def follow(connector: Connector, options: argparse.Namespace) -> None:
    for number, accepted in enumerate(connector.follow(options.after), start=1):
        report("message", cursor=accepted["cursor"], message=accepted["message"])
        if number == options.count:
            return


def answer(connector: Connector, options: argparse.Namespace) -> None:
    """Where a real connector hands the message to its channel, and reports what the channel says."""
    answered = 0
    for accepted in connector.follow(options.after, audience="CUSTOMER"):
        message = accepted["message"]
        # Notifications are events of the session: nobody waits to hear of their delivery.
        if message["body"]["type"] == "NOTIFICATION":
            continue
        notification = connector.send(delivered(message))
        report("answered", messageId=message["id"], notificationId=notification["messageId"], cursor=accepted["cursor"])
        answered += 1
        if answered == options.count:
            return


def main() -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--server", default=os.environ.get("CIM_HTTP_SERVER", "http://127.0.0.1:8080"), metavar="URL")
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
    except urllib.error.HTTPError as error:
        sys.exit(f"{options.server}: {error}: {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{options.server}: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
