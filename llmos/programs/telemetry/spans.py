"""Makes spans of OpenTelemetry's SDK from traces of calls, and sends them by OTLP over HTTP.

The only module that imports OpenTelemetry. A call is a span of kind server with a span for each of its stages below
it. The stages' lengths are measured; they are laid one after another from the call's beginning, in the order in which
a call passes them, and what is left at its end is the daemon's own part.
"""

from __future__ import annotations

import logging
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from llmos import __version__
from llmos.abi.call import CallTimes
from llmos.abi.call_record import CALL_ID, PREFIX
from llmos.abi.error import Cancelled
from llmos.abi.trace_batch import TraceEntry
from llmos.programs.telemetry import genai

PATH = "/v1/traces"  # of an OTLP/HTTP receiver, below its base address
STAGES = ("queue", "tokenize", "batch", "compute", "parse")
MOST_REQUESTS = 1_024  # whose span is known to be used
OK = "ok"
OWN_LOGGER = "opentelemetry"
Attributes = dict[str, str | int | float | bool]


class _LastMessage(logging.Handler):
    """Keeps what the SDK logged last, instead of a line for each failure in the daemon's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class SpanSender:
    """Sends traces as spans, through an exporter of the SDK."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._maker = SpanMaker()
        self._said = _LastMessage()
        logger = logging.getLogger(OWN_LOGGER)
        logger.addHandler(self._said)
        logger.propagate = False

    def send(self, entries: Sequence[TraceEntry]) -> str:
        """Send them, and wait for the answer; returns why they were not taken, empty if they were."""
        self._said.text = ""
        spans = [span for entry in entries for span in self._maker.spans(entry)]
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return ""
        return self._said.text or "the exporter does not say why"

    def close(self) -> None:
        """Give up what is being sent, and send nothing more."""
        self._exporter.shutdown()
        logger = logging.getLogger(OWN_LOGGER)
        logger.removeHandler(self._said)
        logger.propagate = True


class SpanMaker:
    """Makes the spans of a call.

    The trace of a call without a `traceparent` has the digits of the call's id, after zeros: who has the one finds the
    other, and several calls of one request share it.
    """

    def __init__(self) -> None:
        # variables of OpenTelemetry (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) win over what we say ourselves
        own = {
            genai.SERVICE_NAME: genai.LLMOS,
            genai.SERVICE_VERSION: __version__,
            genai.SERVICE_INSTANCE: str(uuid.uuid4()),
        }
        self._resource = Resource.create(own).merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope(genai.LLMOS, __version__)
        self._ids = RandomIdGenerator()
        self._requests: OrderedDict[str, None] = OrderedDict()

    def spans(self, entry: TraceEntry) -> Iterator[ReadableSpan]:
        """The call's span, then those of its stages that took any time."""
        _, at, _, _, outcome, seconds, _, times, _, _ = entry
        attributes = _attributes(entry)
        start_ns = int(at * 1e9)
        end_ns = start_ns + int(seconds * 1e9)
        own, parent = self._contexts(entry)
        is_error = outcome not in (OK, Cancelled.code)  # a client that leaves is no error of ours
        yield ReadableSpan(
            name=f"{attributes[genai.OPERATION]} {attributes[genai.REQUEST_MODEL]}",
            context=own,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if is_error else StatusCode.UNSET),
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=self._scope,
        )
        for name, begin_ns, until_ns in _stages(times or CallTimes(), start_ns, end_ns):
            yield ReadableSpan(
                name=name,
                context=self._context(own.trace_id, self._ids.generate_span_id()),
                parent=own,
                resource=self._resource,
                attributes={},
                kind=SpanKind.INTERNAL,
                start_time=begin_ns,
                end_time=until_ns,
                instrumentation_scope=self._scope,
            )

    def _contexts(self, entry: TraceEntry) -> tuple[SpanContext, SpanContext | None]:
        """The contexts of the call's span and of the client's. The answer told our span: the first call has it."""
        call_id, client = entry[0], entry[-2]
        if client is None:
            known = CALL_ID.fullmatch(call_id)
            trace_id = int(call_id.removeprefix(PREFIX), 16) if known else self._ids.generate_trace_id()
            return self._context(trace_id, self._ids.generate_span_id()), None
        trace_id = int(client.trace_id, 16)
        is_first = call_id not in self._requests
        self._requests[call_id] = None
        if len(self._requests) > MOST_REQUESTS:
            self._requests.popitem(last=False)
        span_id = int(client.span_id, 16) if is_first else self._ids.generate_span_id()
        return self._context(trace_id, span_id), self._context(trace_id, int(client.parent_id, 16), is_remote=True)

    @staticmethod
    def _context(trace_id: int, span_id: int, *, is_remote: bool = False) -> SpanContext:
        return SpanContext(trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))


def open_sender(endpoint: str) -> SpanSender:
    """A sender to the receiver at this base address. Headers, timeout and certificates are those of OTEL_ variables."""
    base = endpoint.rstrip("/")
    return SpanSender(OTLPSpanExporter(endpoint=base if base.endswith(PATH) else base + PATH))


def _attributes(entry: TraceEntry) -> Attributes:
    call_id, _, model, task, outcome, seconds, stream_s, _, _, tokens = entry
    found: Attributes = {
        genai.OPERATION: genai.operation_of(task),
        genai.PROVIDER: genai.LLMOS,
        genai.REQUEST_MODEL: model,
        genai.CALL_ID: call_id,
        genai.TASK: task,
    }
    if stream_s:
        found[genai.REQUEST_STREAM] = True
        found[genai.FIRST_CHUNK_S] = max(seconds - stream_s, 0.0)
    if outcome == OK:
        found[genai.RESPONSE_MODEL] = model
        found[genai.INPUT_TOKENS] = tokens.prompt
        found[genai.OUTPUT_TOKENS] = tokens.completion
    else:
        found[genai.ERROR_TYPE] = outcome
    return found


def _stages(times: CallTimes, start_ns: int, end_ns: int) -> Iterator[tuple[str, int, int]]:
    """The name, beginning and end of each stage that took any time."""
    at_ns = start_ns
    for name in STAGES:
        until_ns = min(at_ns + int(getattr(times, f"{name}_s") * 1e9), end_ns)
        if until_ns > at_ns:
            yield name, at_ns, until_ns
        at_ns = until_ns
