// A client of grpc-js for a service as protobuf-es describes it.

import { create, fromBinary, toBinary, type DescMethod, type DescService } from "@bufbuild/protobuf";
import { makeGenericClientConstructor, type ServiceClientConstructor, type ServiceDefinition } from "@grpc/grpc-js";

export function clientOf(service: DescService): ServiceClientConstructor {
  const methods = service.methods.map((method) => [method.localName, definition(method)]);
  return makeGenericClientConstructor(Object.fromEntries(methods) as ServiceDefinition, service.name);
}

function definition(method: DescMethod) {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: (request: Record<string, unknown>) => Buffer.from(toBinary(method.input, create(method.input, request))),
    requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
    responseSerialize: (response: Record<string, unknown>) => Buffer.from(toBinary(method.output, create(method.output, response))),
    responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  };
}
