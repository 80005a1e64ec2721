package main

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	cimv1 "example.org/cim-gateway/clients/go/cim/v1"
)

// A message whose outcome is unknown is sent again. It has an id, so the gateway stores it once.
const retries = `{"methodConfig": [{
	"name": [{"service": "cim.v1.MessageService", "method": "SendMessage"}],
	"retryPolicy": {
		"maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "5s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

// errDone is what the reader of a stream returns when it has seen enough.
var errDone = errors.New("done")

// Connector is one channel's connector.
type Connector struct {
	*grpc.ClientConn
	client  cimv1.MessageServiceClient
	channel string
}

// apiKey is shown with every call, if there is one.
type apiKey string

func (k apiKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if k == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + string(k)}, nil
}

// RequireTransportSecurity lets the key go to a gateway that is called by http://.
func (apiKey) RequireTransportSecurity() bool { return false }

func dial(address, key, channel string) (*Connector, error) {
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(apiKey(key)),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	return &Connector{connection, cimv1.NewMessageServiceClient(connection), channel}, nil
}

// Send hands a message to the gateway.
func (c *Connector) Send(ctx context.Context, message *cimv1.CimMessage) (*cimv1.SendMessageResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return c.client.SendMessage(ctx, &cimv1.SendMessageRequest{Message: message})
}

// Follow reads every accepted message of the channel that is selected, after a cursor and over any number of connections, until
// read returns errDone.
func (c *Connector) Follow(
	ctx context.Context, after string, selected *cimv1.NotificationFilter, read func(*cimv1.AcceptedMessage) error,
) error {
	selected.ServiceIdentifiers = []string{c.channel}
	for {
		err := c.followOnce(ctx, &after, selected, read)
		if errors.Is(err, errDone) {
			return nil
		}
		if status.Code(err) != codes.Unavailable {
			return err
		}
		if err := report("disconnected", fields{"cursor": after}); err != nil {
			return err
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followOnce reads over one connection; after is the cursor of the last message that was read.
func (c *Connector) followOnce(
	ctx context.Context, after *string, selected *cimv1.NotificationFilter, read func(*cimv1.AcceptedMessage) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Without a start: what is accepted from now on.
	request := &cimv1.SubscribeNotificationsRequest{Filter: selected}
	if *after != "" {
		request.Start = &cimv1.SubscribeNotificationsRequest_AfterCursor{AfterCursor: *after}
	}
	stream, err := c.client.SubscribeNotifications(ctx, request)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if heartbeat := response.GetHeartbeat(); heartbeat != nil {
			if err := report("heartbeat", fields{"cursor": heartbeat.GetCursor()}); err != nil {
				return err
			}
			*after = heartbeat.GetCursor()
			continue
		}
		if err := read(response.GetNotification()); err != nil {
			return err
		}
		*after = response.GetNotification().GetCursor()
	}
}
