"""Settings: which source wins, and what a bad value says."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.error import BadSetting
from llmos.config import SETTINGS, Config, is_loopback, read_config, standard_otel_endpoint
from llmos.testing.errors import fails_with


def test_flags_win_over_the_environment_over_the_file_over_the_defaults(tmp_path):
    (tmp_path / "config.toml").write_text('port = 1000\nhost = "0.0.0.0"\ndtype = "bfloat16"\n')
    environ = {"LLMOS_HOME": str(tmp_path), "LLMOS_PORT": "2000", "LLMOS_HOST": ""}
    config = read_config({"port": 3000, "engine": None}, environ)
    assert (config.port, config.host, config.dtype, config.engine) == (3000, "0.0.0.0", "bfloat16", "pytorch")
    assert read_config({}, environ).port == 2000


def test_a_flag_that_no_setting_has_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(BadSetting) as refused:
        read_config({"prot": 1}, {"LLMOS_HOME": str(tmp_path)})
    assert refused.value.detail == {"key": "prot", "value": "1", "expected": "port"}


def test_the_hub_s_token_is_found_where_the_hub_s_own_tools_look(tmp_path):
    home = {"LLMOS_HOME": str(tmp_path)}
    assert read_config({}, home).hub_token == ""
    assert read_config({}, {**home, "HF_TOKEN": "one"}).hub_token == "one"
    assert read_config({}, {**home, "HF_TOKEN": "one", "LLMOS_HUB_TOKEN": "two"}).hub_token == "two"
    assert "two" not in repr(read_config({}, {**home, "LLMOS_HUB_TOKEN": "two"}))


def test_every_setting_is_a_field_and_every_field_a_setting():
    assert {setting.key for setting in SETTINGS} == set(Config.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "eighty", "a whole number from 1 to 65535"),
        ("port", "70000", "a whole number from 1 to 65535"),
        ("memory_share", "nan", "a number from 0.05 to 1"),
        ("engine", "abacus", "pytorch, llamacpp, vllm or null"),
    ],
)
def test_a_bad_value_says_key_value_and_what_was_expected(tmp_path, name, value, expected):
    origin = f"LLMOS_{name.upper()}"
    with fails_with(BadSetting, key=name, value=value, expected=expected, origin=origin):
        read_config({}, {"LLMOS_HOME": str(tmp_path), origin: value})


@pytest.mark.parametrize(
    ("text", "detail"),
    [("port = true", {"key": "port"}), ("colour = 1", {"key": "colour", "value": 1}), ("port =", {"expected": "TOML"})],
)
def test_a_bad_file_says_where(tmp_path, text, detail):
    (tmp_path / "config.toml").write_text(text)
    with fails_with(BadSetting, **detail):
        read_config({}, {"LLMOS_HOME": str(tmp_path)})


def test_a_client_on_the_machine_is_told_an_address_it_can_reach():
    assert Config(Path("/h"), host="0.0.0.0").url == "http://127.0.0.1:8600"
    assert Config(Path("/h"), host="::1").url == "http://[::1]:8600"


def test_lists_come_from_the_file_as_lists_and_from_elsewhere_with_commas(tmp_path):
    home = {"LLMOS_HOME": str(tmp_path)}
    (tmp_path / "config.toml").write_text('allowed_hosts = ["box.lan", "[fd00::1]"]\ninsecure = true\n')
    environ = {**home, "LLMOS_ALLOWED_ORIGINS": "http://localhost:3000, https://ui.example.com,"}
    config = read_config({"data_roots": "/data,/more"}, environ)
    assert config.allowed_hosts == ("box.lan", "[fd00::1]")
    assert config.allowed_origins == ("http://localhost:3000", "https://ui.example.com")
    assert config.data_roots == (Path("/data"), Path("/more"))
    assert config.insecure
    assert not read_config({"insecure": "false"}, environ).insecure


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("allowed_origins", one)
            for one in ("*", "null", "localhost:3000", "http://box/", "http://BOX", "https://*.x.y")
        ),
        *(("allowed_hosts", one) for one in ("*", "http://box", "box:80", "a b", "*.box")),
        *(("insecure", one) for one in ("yes", "", "2")),
    ],
)
def test_what_would_let_everybody_in_is_no_setting(tmp_path, key, value):
    with fails_with(BadSetting, key=key):
        read_config({key: value}, {"LLMOS_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *((own, True) for own in ("localhost", "127.9.9.9", "::1", "::ffff:127.0.0.1")),
        *((other, False) for other in ("0.0.0.0", "::", "192.168.1.5", "example.com", "")),
    ],
)
def test_loopback_is_what_no_other_machine_reaches(host, own):
    assert is_loopback(host) is own


RECEIVER = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("more", "endpoint"),
    [
        ({}, "http://127.0.0.1:4318"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "otlp"}, "http://127.0.0.1:4318"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ""),
        ({"OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_SDK_DISABLED": "True"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
    ],
)
def test_opentelemetry_s_own_variable_names_a_receiver_unless_others_turn_it_off(more, endpoint):
    assert standard_otel_endpoint({**RECEIVER, **more}) == endpoint


@pytest.mark.parametrize(
    "value", ["localhost:4318", "ftp://host", "http://", "http://u:p@host", "http://host/?x=1", ""]
)
def test_a_receiver_s_address_is_http_or_https_with_a_host_alone(tmp_path, value):
    with pytest.raises(BadSetting):
        read_config({"home": tmp_path, "otel_endpoint": value}, {})
    assert read_config({"home": tmp_path, "otel_endpoint": "https://host:4318/otlp"}, {}).otel_endpoint
