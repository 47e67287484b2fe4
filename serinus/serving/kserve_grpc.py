"""The gRPC service of KServe's V2 protocol: its messages as exchanges, known faults as statuses, no call that takes the
model away.

Invariant: what a caller can send, also bytes that are no message, is answered with a status that is the caller's; its
port is nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from grpc import StatusCode, aio
from kserve import errors
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.utils.utils import to_headers

from serinus.core.errors import Conflict, SerinusError
from serinus.serving import infer, tensors
from serinus.serving.answer import Answer
from serinus.serving.edge import MOST_BYTES
from serinus.serving.request import BadRequest, Instance

_HEADLINE = "the request is not valid"
# A client takes 8 KiB of trailing metadata, in which each byte of a status text takes three at most.
_MOST_TOLD = 2_000


class _SwitchedOff(Exception):
    """A call of the protocol that this server does not offer."""


# KServe would log a traceback for each of them, and anyone can send them.
_CALLERS_FAULTS = {
    errors.InvalidInput: StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    _SwitchedOff: StatusCode.UNIMPLEMENTED,
}


class V2Message:
    """`ModelInfer` as an exchange: elements typed or raw, and answered alike, as KServe does it."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self._outputs: list[infer.Output] = []

    def read(self, outputs: Sequence[str], /) -> Instance:
        """See `Exchange`."""
        message, raw = self._message, self._message.raw_input_contents
        if not message.inputs:
            raise BadRequest(_HEADLINE, {"inputs": "must be a list of tensors, one at least"})
        if raw and len(raw) != len(message.inputs):
            problem = f"{len(raw)} of them for {len(message.inputs)} inputs; either all inputs are raw or none"
            raise BadRequest(_HEADLINE, {"raw_input_contents": problem})
        found = infer.tensors([partial(_tensor, message, i) for i in range(len(message.inputs))])
        named = [(one.name, bool(raw)) for one in message.outputs]
        self._outputs = infer.outputs(named, outputs, bool(raw))
        return infer.instance(message.id, found)

    def write(self, answer: Answer) -> Any:
        """See `Exchange`."""
        head = {"model_name": self._message.model_name, "model_version": answer.version, "id": answer.request_id}
        made = messages.ModelInferResponse(**head)
        for name, text in infer.parameters(answer).items():
            made.parameters[name].string_param = text
        for one in self._outputs:
            values = one.values(answer)
            tensor = made.outputs.add(name=one.name, datatype=one.datatype.name, shape=[len(values)])
            if one.binary:
                made.raw_output_contents.append(tensors.to_raw(one.datatype, values))
            else:
                sent = [value.encode() if isinstance(value, str) else value for value in values]
                getattr(tensor.contents, one.datatype.contents).extend(sent)
        return made


def _tensor(message: Any, position: int) -> tensors.Tensor:
    one, path = message.inputs[position], f"inputs[{position}]"
    of = tensors.spec(path, one.name, one.datatype, list(one.shape))
    filled = [found.name for found, _ in one.contents.ListFields()]
    if message.raw_input_contents:
        if filled:
            raise of.fault("must be empty beside raw_input_contents", ".contents")
        return tensors.from_raw(of, message.raw_input_contents[position])
    wanted = of.datatype.contents
    if not wanted:
        raise of.fault(f"{of.datatype.name} has none: send raw_input_contents", ".contents")
    if wrong := [name for name in filled if name != wanted]:
        raise of.fault(f"elements of {of.datatype.name} are {wanted}, not {wrong[0]}", ".contents")
    return tensors.from_elements(of, list(getattr(one.contents, wanted)), f".contents.{wanted}")


class _Undecoded(aio.ServerInterceptor):  # type: ignore[misc]
    """Hands bytes that are no message on as the fault that they are: gRPC would call them the server's own."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """See the class."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        return handler._replace(request_deserializer=_or_fault(handler.request_deserializer))


def _or_fault(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def message(raw: bytes) -> Any:
        try:
            return read(raw)
        except DecodeError as fault:
            return fault

    return message


class _Statuses(ExceptionToStatusInterceptor):  # type: ignore[misc]
    """Known faults as gRPC statuses."""

    async def intercept(self, method: Any, request_or_iterator: Any, context: Any, method_name: str) -> Any:
        """See `_Undecoded`."""
        if isinstance(request_or_iterator, DecodeError):
            fault = BadRequest("the message cannot be read", {"message": str(request_or_iterator)[:200]})
            await self.handle_exception(fault, request_or_iterator, context, method_name)
        return await super().intercept(method, request_or_iterator, context, method_name)

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        """See `SerinusError.http_status`."""
        if type(ex) in _CALLERS_FAULTS:
            await context.abort(_CALLERS_FAULTS[type(ex)], _told(str(ex)))
        if not isinstance(ex, SerinusError):
            await super().handle_exception(ex, request_or_iterator, context, method_name)
            return
        code = StatusCode.INVALID_ARGUMENT if ex.http_status < 500 else StatusCode.INTERNAL
        code = StatusCode.UNAVAILABLE if ex.http_status == 503 else code
        await context.abort(code, _told(f"{ex.headline} ({ex.cause})" if isinstance(ex, BadRequest) else ex.headline))


def _told(text: str) -> str:
    """As much of a status text as every client takes: of a longer one it would get another status instead."""
    whole = text.encode(errors="replace")
    return text if len(whole) <= _MOST_TOLD else whole[:_MOST_TOLD].decode(errors="ignore") + " …"


class _Servicer(InferenceServicer):  # type: ignore[misc]
    """KServe's, without the calls by which anyone could take the model away."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """The message as it came: KServe's reading of it takes raw BYTES for something else."""
        answer, _ = await self._data_plane.infer(
            model_name=request.model_name, request=V2Message(request), headers=to_headers(context)
        )
        return answer

    async def RepositoryModelLoad(self, request: Any, context: Any) -> None:
        """Off."""
        raise _SwitchedOff("models are not loaded by request")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> None:
        """Off."""
        raise _SwitchedOff("models are not unloaded by request")


class PredictorGrpc(GRPCServer):  # type: ignore[misc]
    """On the given addresses (`127.0.0.1:8081`), with our statuses."""

    def __init__(self, addresses: Sequence[str], plane: Any, repository: Any) -> None:
        super().__init__(0, plane, repository, kwargs={})
        self._addresses = tuple(addresses)

    def bind(self, max_workers: int) -> None:
        """Within the event loop, before `start`. Raises `Conflict` when another process listens on one of them."""
        # gRPC shares ports by default: two servers would answer in turns.
        options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.so_reuseport", 0)]
        chain = (_Statuses(), _Undecoded())
        self._server = aio.server(ThreadPoolExecutor(max_workers), interceptors=chain, options=options)
        servicer = _Servicer(self._data_plane, self._model_repository_extension)
        services.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        for one in self._addresses:
            try:
                self._server.add_insecure_port(one)
            except RuntimeError as fault:
                raise Conflict(
                    f"gRPC cannot listen on {one}: another process does, or it is not this machine's"
                ) from fault

    async def start(self) -> None:
        """Serves until stopped."""
        await self._server.start()
        await self._server.wait_for_termination()
