"""Serves /metrics: the counts of calls and the kernel's figures, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from llmos.abi.alert import AlertSeverity
from llmos.abi.histogram import Histogram
from llmos.abi.key import KeyScope
from llmos.abi.process import State
from llmos.api.call_service import BOUNDS_S, Meter
from llmos.api.endpoint import Endpoint
from llmos.kernel.alerts.windows import MetricSample
from llmos.kernel.interface import KernelInterface
from llmos.kernel.programs import traits_of

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PREEMPTIONS = ("llmos_generation_preemptions",)
GENERATION = {  # metric: the figure of a process that generates, and its help
    "llmos_generation_preemptions": ("preempted", "Sequences that gave their KV cache to another, since the start"),
    "llmos_kv_cache_blocks": ("kv_blocks", "Blocks of the KV cache"),
    "llmos_kv_cache_used_blocks": ("kv_held", "Blocks of the KV cache that sequences hold"),
    "llmos_kv_cache_kept_blocks": ("kv_kept", "Blocks of the KV cache that are kept for prompts that begin alike"),
    "llmos_kv_cache_used_ratio": ("kv_share", "The share of the KV cache that answers may need (llama.cpp, vLLM)"),
    "llmos_kv_cache_waste_ratio": ("kv_waste", "The empty share of the blocks that sequences hold"),
    "llmos_prefix_cache_hit_ratio": ("prefix_hit_rate", "The share of prompt tokens found in the prefix cache"),
}


def family(histogram: Histogram, name: str, doc: str) -> Metric:
    """A histogram in Prometheus' format."""
    from prometheus_client.core import HistogramMetricFamily

    made = HistogramMetricFamily(name, doc, labels=["model", "priority"])
    for key, counts in histogram.counts.items():
        bounds = (*map(str, histogram.bounds_s), "+Inf")
        buckets = [(bound, float(sum(counts[: i + 1]))) for i, bound in enumerate(bounds)]
        made.add_metric(list(key), buckets, histogram.sums[key])
    return made


class Metrics:
    """The /metrics route."""

    def __init__(self, kernel: KernelInterface, meter: Meter) -> None:
        self._kernel = kernel
        self._meter = meter

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/metrics",
                self.show,
                "Counters and gauges for Prometheus",
                media="text/plain",
                scope=KeyScope.MONITOR,
            )
        ]

    async def show(self, request: Request) -> Response:
        # imported late: only a daemon that is scraped needs it
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return Response(generate_latest(registry), media_type=TEXT)

    def describe(self) -> list[Metric]:
        """Returns nothing, so that registration does not collect once just for the names."""
        return []

    def readings(self) -> Iterator[MetricSample]:
        """Every sample, as rules of alerts read them."""
        for one in self.collect():
            for sample in one.samples:
                yield MetricSample(sample.name, sample.labels, sample.value)

    def collect(self) -> Iterator[Metric]:
        yield from self._calls()
        yield from self._kernel_figures()

    def _calls(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        calls = CounterMetricFamily("llmos_calls", "Calls that ended", labels=["task", "model", "outcome"])
        for labels, number in self._meter.calls.items():
            calls.add_metric(labels, number)
        yield calls
        tokens = CounterMetricFamily("llmos_tokens", "Tokens of those calls", labels=["task", "model", "kind"])
        for labels, number in self._meter.tokens.items():
            tokens.add_metric(labels, number)
        yield tokens
        latency = HistogramMetricFamily(
            "llmos_call_seconds", "Time from a call to its last chunk", labels=["task", "model"]
        )
        for key, counts in self._meter.buckets.items():
            bounds = (*map(str, BOUNDS_S), "+Inf")
            latency.add_metric(
                key, list(zip(bounds, map(float, accumulate(counts)), strict=True)), self._meter.seconds[key]
            )
        yield latency
        requests = self._kernel.requests
        yield CounterMetricFamily(
            "llmos_request_log_records", "Records written to the request log", requests.written_count
        )
        yield CounterMetricFamily("llmos_request_log_lost", "Records that the request log lost", requests.lost_count)
        yield CounterMetricFamily(
            "llmos_otel_traces_sent", "Traces of calls that the OpenTelemetry receiver took", requests.sent_traces_count
        )
        yield CounterMetricFamily(
            "llmos_otel_traces_lost", "Traces of calls that it did not get", requests.lost_traces_count
        )
        refusals = CounterMetricFamily("llmos_refusals", "Requests that were refused", labels=["code"])
        for code, number in self._meter.refusals.items():
            refusals.add_metric([code], number)
        yield refusals
        first, each = self._meter.first_token, self._meter.each_token
        yield family(first, "llmos_first_token_seconds", "Of streamed calls: time until the first piece")
        yield family(each, "llmos_each_token_seconds", "Of streamed calls: time a token after the first piece")

    def _slos(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        left = GaugeMetricFamily(
            "llmos_slo_budget_left_ratio",
            "Of an objective's budget of 30 days: what is left",
            labels=["model", "objective"],
        )
        burn = GaugeMetricFamily(
            "llmos_slo_burn_rate_ratio",
            "How fast a budget is used; at 1 it lasts exactly 30 days",
            labels=["model", "objective", "window"],
        )
        for slo in self._kernel.slos.all():
            for state in slo.objectives:
                left.add_metric([slo.name, state.objective], state.budget_left)
                for window, rate in state.burn_rates.items():
                    burn.add_metric([slo.name, state.objective, window], rate)
        yield left
        yield burn

    def _kernel_figures(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        yield family(
            self._kernel.calls.queue_times, "llmos_queue_seconds", "Time from a call to its serve process having it"
        )
        yield from self._slos()
        status = self._kernel.status()
        states = GaugeMetricFamily("llmos_processes", "Processes by state", labels=["state"])
        for state, number in status.processes.items():
            states.add_metric([state], number)
        yield states
        leased: Counter[tuple[str, str]] = Counter()
        for lease in status.leases:
            leased[lease.device, lease.kind] += lease.size_bytes
        leases = GaugeMetricFamily("llmos_leased_bytes", "Leased bytes of devices", labels=["device", "kind"])
        for labels, size in leased.items():
            leases.add_metric(labels, size)
        yield leases
        free = GaugeMetricFamily("llmos_free_bytes", "Bytes of devices that may still be leased", labels=["device"])
        for device, size in status.free_bytes.items():
            free.add_metric([device], size)
        yield free
        yield from self._generation()
        yield from self._alerts()
        wakes = CounterMetricFamily(
            "llmos_wakes", "Times that a base was started, or a model attached to it, for calls", labels=["model"]
        )
        for model, number in status.wakes.items():
            wakes.add_metric([model], number)
        yield wakes
        yield GaugeMetricFamily("llmos_resident_bytes", "Resident memory of the daemon", status.rss_bytes)
        yield GaugeMetricFamily("llmos_calls_in_flight", "Calls not yet answered", status.in_flight)
        yield GaugeMetricFamily("llmos_start_time_seconds", "When the daemon started, since 1970", status.started_at)
        yield InfoMetricFamily("llmos_build", "Which llmos this is", {"version": status.version})

    def _alerts(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        view = self._kernel.alerts.view()
        firing = GaugeMetricFamily("llmos_alerts_firing", "Alerts that fire", labels=["severity"])
        for severity in AlertSeverity:
            number = sum(one.ended_at is None and one.severity is severity for one in view.alerts)
            firing.add_metric([severity], number)
        yield firing
        told = CounterMetricFamily(
            "llmos_alert_messages", "Attempts to send messages about alerts", labels=["channel", "outcome"]
        )
        for channel in view.channels:
            told.add_metric([channel.name, "sent"], channel.sent)
            told.add_metric([channel.name, "failed"], channel.failed)
        yield told
        yield GaugeMetricFamily("llmos_alert_messages_waiting", "Messages not sent yet", len(view.deliveries))

    def _generation(self) -> Iterator[Metric]:
        """How full the processes are that generate. Each unit has a metric of its own."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kinds: dict[str, Callable[..., CounterMetricFamily | GaugeMetricFamily]] = {
            name: CounterMetricFamily if name in PREEMPTIONS else GaugeMetricFamily for name in GENERATION
        }
        made = {name: kinds[name](name, doc, labels=["pid", "base"]) for name, (_, doc) in GENERATION.items()}
        sequences = GaugeMetricFamily(
            "llmos_generation_sequences", "Sequences of a process that generates", labels=["pid", "base", "state"]
        )
        for process in self._kernel.processes.all():
            figures = process.progress.figures if process.state is State.READY and process.progress else {}
            if not figures or not traits_of(process.spec.program).answers_calls:
                continue
            labels = [str(process.pid), str(process.spec.args.get("base", ""))]
            for name, (figure, _) in GENERATION.items():
                if figure in figures:
                    made[name].add_metric(labels, figures[figure])
            for state, number in _sequences(figures).items():
                sequences.add_metric([*labels, state], number)
        yield from (sequences, *made.values())


def _sequences(figures: Mapping[str, float]) -> dict[str, float]:
    """The sequences of a generation scheduler by state; each is in one."""
    if "live" not in figures:
        return {}
    prefill = figures.get("reading", 0.0)
    return {"prefill": prefill, "running": figures["live"] - prefill, "waiting": figures.get("waiting", 0.0)}
