package main

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	cimv1 "example.org/cim-gateway/clients/go/cim/v1"
)

// newMessage is a message to the gateway on behalf of a customer, or of a bot.
func newMessage(kind cimv1.SenderType, channel, customer string) *cimv1.CimMessage {
	return &cimv1.CimMessage{
		Id: proto.String(uuid.NewString()),
		Header: &cimv1.Header{
			Sender: newSender(kind),
			ChannelData: &cimv1.ChannelData{
				ChannelCustomerIdentifier: &customer,
				ServiceIdentifier:         &channel,
				CustomerFirstName:         proto.String("Zoë"),
				RequestPriority:           3,
			},
			Timestamp: now(),
		},
		Body: richBody(),
	}
}

// delivered is the notification that a message reached the customer.
func delivered(about *cimv1.CimMessage) *cimv1.CimMessage {
	return &cimv1.CimMessage{
		Id: proto.String(uuid.NewString()),
		Header: &cimv1.Header{
			Sender:           newSender(cimv1.SenderType_SENDER_TYPE_CONNECTOR),
			ChannelData:      about.GetHeader().GetChannelData(),
			ChannelSessionId: about.GetHeader().ChannelSessionId,
			ConversationId:   about.GetHeader().ConversationId,
			Timestamp:        now(),
		},
		Body: &cimv1.Body{Kind: &cimv1.Body_DeliveryNotification{DeliveryNotification: &cimv1.DeliveryNotificationBody{
			MessageId:  about.Id,
			Status:     cimv1.DeliveryStatus_DELIVERY_STATUS_DELIVERED,
			ReasonCode: proto.String("200"),
		}}},
	}
}

func newSender(kind cimv1.SenderType) *cimv1.Sender {
	return &cimv1.Sender{
		Id:               proto.String("go-1"),
		Type:             kind,
		SenderName:       proto.String("GO_CONNECTOR"),
		AdditionalDetail: additionalDetail(),
	}
}

// additionalDetail is what else is known of the sender.
func additionalDetail() *structpb.Struct {
	return object(map[string]any{
		"software": "go",
		"score":    0.75,
		"visits":   3,
		"vip":      true,
		"referrer": nil,
		"tags":     []any{"new", "web"},
		"device":   map[string]any{"os": "Linux", "width": 1080},
	})
}

// richBody is buttons to choose from.
func richBody() *cimv1.Body {
	return &cimv1.Body{
		MarkdownText: proto.String("How do you want to pay? 💶"),
		Kind: &cimv1.Body_Button{Button: &cimv1.ButtonBody{
			ButtonMessageType: cimv1.ButtonMessageType_BUTTON_MESSAGE_TYPE_QUICK_REPLIES,
			AdditionalDetails: structpb.NewStructValue(object(map[string]any{
				"interactive": map[string]any{"header": map[string]any{"text": "Payment"}, "footer": map[string]any{"text": "Order 4711"}},
			})),
			Buttons: []*cimv1.Button{
				{
					Title:   proto.String("Card"),
					Payload: proto.String("PAY_CARD"),
					Type:    proto.String("postback"),
					AdditionalButtonDetails: structpb.NewStructValue(object(map[string]any{
						"sectionTitle": "At once", "description": "Visa, Mastercard",
					})),
				},
				{Title: proto.String("Invoice"), Payload: proto.String("PAY_INVOICE"), Type: proto.String("postback")},
			},
		}},
	}
}

// object is free-form JSON; it panics on a Go value that JSON does not have, which only a mistake in this file can be.
func object(values map[string]any) *structpb.Struct {
	object, err := structpb.NewStruct(values)
	if err != nil {
		panic(err)
	}
	return object
}

func now() *timestamppb.Timestamp {
	now := timestamppb.Now()
	// The gateway keeps milliseconds.
	now.Nanos -= now.Nanos % 1_000_000
	return now
}
