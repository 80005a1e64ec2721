// A connector over gRPC: sends a message, follows the stream, and reports what it delivered.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	cimv1 "example.org/cim-gateway/clients/go/cim/v1"
)

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate

const usage = `usage: connector send   [--customer ID] [--sender connector|bot]
       connector follow [--after CURSOR] [--count N]
       connector answer [--after CURSOR] [--count N]
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	server := flags.String("server", env("CIM_SERVER", "http://127.0.0.1:50051"), "`URL` of the gateway")
	channel := flags.String("channel", "6655", "service `identifier` of the channel")
	customer := flags.String("customer", "4915112345678", "the customer's `address` on the channel")
	sender := flags.String("sender", "connector", "who says it: connector or bot")
	after := flags.String("after", "", "`cursor` after which to go on; else from now on")
	count := flags.Int("count", 0, "end after `N` messages; else never")
	flags.Parse(args[1:])

	connector, err := dial(strings.TrimPrefix(*server, "http://"), env("CIM_API_KEY", ""), *channel)
	if err != nil {
		return err
	}
	defer connector.Close()
	switch args[0] {
	case "send":
		return send(ctx, connector, *customer, *sender)
	case "follow":
		return follow(ctx, connector, *after, *count)
	case "answer":
		return answer(ctx, connector, *after, *count)
	default:
		return fmt.Errorf("no command %q\n%s", args[0], usage)
	}
}

func env(name, otherwise string) string {
	if value, set := os.LookupEnv(name); set {
		return value
	}
	return otherwise
}

func send(ctx context.Context, connector *Connector, customer, sender string) error {
	kind := cimv1.SenderType_SENDER_TYPE_CONNECTOR
	if sender == "bot" {
		kind = cimv1.SenderType_SENDER_TYPE_BOT
	}
	answer, err := connector.Send(ctx, newMessage(kind, connector.channel, customer))
	if err != nil {
		return err
	}
	return report("sent", fields{
		"messageId":      answer.GetMessageId(),
		"conversationId": answer.GetConversationId(),
		"duplicate":      answer.GetDuplicate(),
	})
}

func follow(ctx context.Context, connector *Connector, after string, count int) error {
	seen := 0
	return connector.Follow(ctx, after, &cimv1.NotificationFilter{}, func(accepted *cimv1.AcceptedMessage) error {
		message, err := protojson.Marshal(accepted.GetMessage())
		if err != nil {
			return err
		}
		if err := report("message", fields{"cursor": accepted.GetCursor(), "message": json.RawMessage(message)}); err != nil {
			return err
		}
		return ended(&seen, count)
	})
}

// answer is where a real connector hands the message to its channel, and reports what the channel says.
func answer(ctx context.Context, connector *Connector, after string, count int) error {
	answered := 0
	forCustomers := &cimv1.NotificationFilter{Audiences: []cimv1.Audience{cimv1.Audience_AUDIENCE_CUSTOMER}}
	return connector.Follow(ctx, after, forCustomers, func(accepted *cimv1.AcceptedMessage) error {
		// Notifications are events of the session: nobody waits to hear of their delivery.
		if accepted.GetMessage().GetBody().GetNotification() != nil {
			return nil
		}
		notification, err := connector.Send(ctx, delivered(accepted.GetMessage()))
		if err != nil {
			return err
		}
		if err := report("answered", fields{
			"messageId":      accepted.GetMessage().GetId(),
			"notificationId": notification.GetMessageId(),
			"cursor":         accepted.GetCursor(),
		}); err != nil {
			return err
		}
		return ended(&answered, count)
	})
}

// ended counts one more, and says whether that was the last.
func ended(seen *int, count int) error {
	*seen++
	if *seen == count {
		return errDone
	}
	return nil
}

type fields map[string]any

// report writes one line of JSON on standard output.
func report(event string, fields fields) error {
	fields["event"] = event
	return json.NewEncoder(os.Stdout).Encode(fields)
}
