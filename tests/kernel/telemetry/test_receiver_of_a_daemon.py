"""Which receiver a daemon sends to, what it says where the extra is not there, and the path of a call's trace."""

import logging
import sys

import pytest

from llmos.abi.error import Missing
from llmos.config import Config
from llmos.daemon import with_receiver
from llmos.kernel.telemetry.trace_exporter import PACKAGES, is_installed
from llmos.testing.errors import fails_with

ONE, OTHER = "http://one:4318", "http://other:4318"


@pytest.fixture
def no_packages(monkeypatch):
    """Python finds none of OpenTelemetry, as where the extra is not installed."""
    for name in {package.partition(".")[0] for package in PACKAGES} | {*PACKAGES}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "meta_path", [_Hides(), *sys.meta_path])


class _Hides:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)


@pytest.fixture
def packages():
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is not here: llmos[otel]")


def test_without_a_receiver_nothing_of_it_is_imported(tmp_path):
    config = Config(tmp_path)
    assert with_receiver(config, "") is config


@pytest.mark.usefixtures("no_packages")
def test_a_setting_without_the_extra_stops_the_start_even_beside_the_variable(tmp_path):
    assert not is_installed()
    with fails_with(Missing, extra="otel", key="otel_endpoint"):
        with_receiver(Config(tmp_path, otel_endpoint=ONE), "")
    with fails_with(Missing, extra="otel", key="otel_endpoint"):
        with_receiver(Config(tmp_path, otel_endpoint=ONE), OTHER)


@pytest.mark.usefixtures("no_packages")
def test_a_variable_for_all_programs_without_the_extra_is_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert with_receiver(Config(tmp_path), OTHER).otel_endpoint == ""
    assert "pip install 'llmos[otel]'" in caplog.text


@pytest.mark.usefixtures("packages")
def test_the_setting_wins_over_the_variable(tmp_path):
    assert with_receiver(Config(tmp_path, otel_endpoint=ONE), OTHER).otel_endpoint == ONE
    assert with_receiver(Config(tmp_path), OTHER).otel_endpoint == OTHER
