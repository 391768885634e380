"""The settings: one frozen Config, read once at the start from defaults < file < environment < flags.

Nothing else reads the environment. An invalid value stops the start; it is never replaced silently.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from llmos.abi.cpu import AUTO, NAMES, SETTING
from llmos.abi.error import BadSetting
from llmos.abi.setting_values import Value
from llmos.abi.setting_values import flag as _flag
from llmos.abi.setting_values import host as _host
from llmos.abi.setting_values import list_of as _list_of
from llmos.abi.setting_values import none_or_number as _none_or_number
from llmos.abi.setting_values import number as _number
from llmos.abi.setting_values import one_of as _one_of
from llmos.abi.setting_values import origin as _origin
from llmos.abi.setting_values import path as _path
from llmos.abi.setting_values import text as _text
from llmos.abi.setting_values import url as _url
from llmos.abi.setting_values import whole as _whole

FLAGS = (
    "host",
    "port",
    "engine",
    "insecure",
    "tls_cert",
    "tls_key",
)  # of `llmos up`; every other setting is one of its --set
SYSTEM = "system"  # in place of a file of authorities: those of this machine
LOCAL_KEY = "local.key"  # in the home: what this user's commands call with, made at each start of the daemon
HUB_TOKEN = "HF_TOKEN"  # where the hub's own tools look for it


@dataclass(frozen=True, slots=True)
class Config:
    """The settings that the daemon was started with."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8600
    engine: str = "pytorch"
    vllm_command: str = "vllm"
    memory_share: float = 0.8
    threads: int = 0
    dtype: str = "auto"
    cpu_kernels: str = AUTO
    token_budget: int = 8192
    kv_bytes: int = 1 << 30
    idle_timeout_s: float = 900.0
    stop_grace_s: float = 60.0
    heartbeat_timeout_s: float = 30.0
    call_timeout_s: float = 120.0
    max_waiting_calls: int = 1024
    max_body_bytes: int = 32 * 1024 * 1024
    max_held_bytes: int = 256 * 1024 * 1024
    max_connections: int = 1024
    catalog: Path | None = None
    hub_token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    endpoint_hosts: tuple[str, ...] = ()
    endpoint_key: str = field(default="", repr=False)
    resume_at_start: bool = False
    log_level: str = "info"
    max_log_bytes: int = 10 * 1024 * 1024
    max_log_files: int = 3
    insecure: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    data_roots: tuple[Path, ...] = ()
    max_upload_bytes: int = 16 << 30
    max_uploads_bytes: int = 64 << 30
    upload_lifetime_s: float = 7 * 86_400.0
    request_log: str = "off"
    request_log_share: float = 0.01
    request_log_text: bool = False
    request_log_days: int = 30
    recent_calls_bytes: int = 16 * 1024 * 1024
    rollout_texts: bool = False
    rollout_texts_days: int = 90
    usage_days: int = 400
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: str = ""
    otel_endpoint: str = ""
    otel_share: float = 1.0

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the daemon."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        scheme = "https" if self.tls_cert is not None or self.tls_ca else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key (in the file; in the environment LLMOS_<KEY>), its allowed values, and its help."""

    key: str
    read: Callable[[Value], Any]  # Any: the field of Config it fills
    expected: str
    doc: str

    @property
    def env(self) -> str:
        return f"LLMOS_{self.key.upper()}"


SETTINGS: tuple[Setting, ...] = (
    Setting("home", _path, "a folder", "Where everything is kept: models, data, journal, logs. Default `~/.llmos`"),
    Setting("host", _text, "a host name or address", "The address the daemon listens on"),
    Setting("port", _whole(1, 65535), "a whole number from 1 to 65535", "The port the daemon listens on"),
    Setting(
        "engine",
        _one_of("pytorch", "llamacpp", "vllm", "null"),
        "pytorch, llamacpp, vllm or null",
        "The default engine, used if neither the call nor the model names one. pytorch serves what it cannot, and "
        "trains. null computes nothing",
    ),
    Setting(
        "vllm_command",
        _text,
        "a command",
        "The command that starts vLLM; arguments are appended. Use a path if vLLM has its own environment",
    ),
    Setting(
        "memory_share",
        _number(0.05, 1.0),
        "a number from 0.05 to 1",
        "The share of each device's memory that processes may lease",
    ),
    Setting(
        "threads", _whole(0, 1024), "a whole number from 0 to 1024", "Compute threads per process; 0: one per core"
    ),
    Setting(
        "dtype",
        _one_of("auto", "float32", "bfloat16"),
        "auto, float32 or bfloat16",
        "The number format that models compute in; auto: the one that measured faster on this machine. int8 is a "
        "property of a version (`llmos quantize`), not of the daemon",
    ),
    Setting(
        SETTING,
        _one_of(*NAMES),
        ", ".join(NAMES[:-1]) + " or " + NAMES[-1],
        "The CPU instructions that compiled loops may use; a named path limits torch too. auto: the widest that the "
        "processor has; none: no compiled loops. A path that the processor or compiler lacks is refused",
    ),
    Setting(
        "token_budget",
        _whole(64, 1_048_576),
        "a whole number from 64 to 1048576",
        "Token budget: the most tokens in one forward pass of serving",
    ),
    Setting(
        "kv_bytes",
        _whole(1 << 20, 1 << 50),
        "a whole number of bytes from 1048576",
        "Bytes of KV cache per serve process, including cached prompt prefixes (prefix cache)",
    ),
    Setting(
        "idle_timeout_s",
        _number(0.0, 31_536_000.0),
        "seconds, 0 or more",
        "A serve process without calls for this time ends and frees its memory; 0: never",
    ),
    Setting(
        "stop_grace_s",
        _number(0.0, 3600.0),
        "seconds, from 0 to 3600",
        "The time a process has to stop (a trainer to write its checkpoint) before it is killed",
    ),
    Setting(
        "heartbeat_timeout_s",
        _none_or_number(3.0, 86_400.0),
        "seconds, from 3 to 86400, or 0",
        "A serve process that does not respond for this time is killed and restarted, and its calls are sent again. "
        "While it loads, it has four times as long. With priority background, this happens only if a signal has "
        "stopped it. 0: never",
    ),
    Setting(
        "call_timeout_s",
        _number(0.1, 86_400.0),
        "seconds, from 0.1 to 86400",
        "A call fails when it has waited this long for the next chunk of its answer",
    ),
    Setting(
        "max_waiting_calls",
        _whole(1, 1_000_000),
        "a whole number from 1 to 1000000",
        "The most queued calls per priority and serve process; one more is refused (429) and may be retried",
    ),
    Setting(
        "max_body_bytes",
        _whole(1024, 268_435_456),
        "a whole number from 1024 to 268435456",
        "The largest request body that is accepted",
    ),
    Setting(
        "max_held_bytes",
        _whole(1024, 1 << 40),
        "a whole number of bytes from 1024",
        "The most bytes of all request bodies together; a request beyond that is refused (429) and may be retried. One "
        "body of max_body_bytes is always accepted",
    ),
    Setting(
        "max_connections",
        _whole(1, 65535),
        "a whole number from 1 to 65535",
        "The most open connections. One more replaces the connection that has waited longest for its client; if all "
        "are busy, it is refused (503) and may be retried",
    ),
    Setting(
        "hub_token",
        _text,
        "a token",
        "The hub's access token, for models that need permission; `HF_TOKEN` if this is not set. Never pass it as a "
        "flag: other users can see flags",
    ),
    Setting("catalog", _path, "a TOML file", "More models that `llmos pull` knows by name, besides the built-in ones"),
    Setting(
        "resume_at_start",
        _flag,
        "true or false",
        "At its start the daemon resumes what the end of the earlier one has interrupted, from its checkpoint: "
        "trainings, pulls, searches. Not what a user stopped or suspended. `llmos restart` and a service do so",
    ),
    Setting(
        "log_level",
        _one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "How much the daemon writes to its log",
    ),
    Setting(
        "max_log_bytes",
        _whole(4096, 1 << 40),
        "a whole number of bytes from 4096",
        "The size at which a log file is rotated to `.log.1`, the next one to `.log.2`",
    ),
    Setting(
        "max_log_files",
        _whole(3, 1000),
        "a whole number from 3 to 1000",
        "Files kept per log: the newest, and for a process also the very first",
    ),
    Setting(
        "insecure",
        _flag,
        "true or false",
        "Allow an address that other machines can reach while there is no key: whoever reaches the port may use it. "
        "Without it the daemon starts there only if there is a key (`llmos key create`)",
    ),
    Setting(
        "api_key",
        _text,
        "a key",
        "The key that commands and the Python client call with. Without it, those of the home's owner need none on the "
        "daemon's own machine. Never pass it as a flag: other users can see flags",
    ),
    Setting(
        "endpoint_hosts",
        _list_of(_text),
        "host:port, separated by commas, a list in the file",
        "Servers of other models that rules and teachers may ask: rows are sent there. None by default",
    ),
    Setting(
        "endpoint_key",
        _text,
        "a key",
        "The key that these servers are asked with, as a bearer token. Never pass it as a flag: other users can see "
        "flags",
    ),
    Setting(
        "allowed_hosts",
        _list_of(_host),
        "host names separated by commas, a list in the file",
        "More names allowed in a request's Host header, besides loopback names and the address listened on: those of a "
        "reverse proxy, or of this machine in its network",
    ),
    Setting(
        "allowed_origins",
        _list_of(_origin),
        "origins like http://localhost:3000 separated by commas, a list in the file",
        "Origins of web pages that may use the daemon from a browser (CORS). All other pages are refused",
    ),
    Setting(
        "data_roots",
        _list_of(_path),
        "folders separated by commas, a list in the file",
        "The folders whose files requests may name, as data or to pull. Without it, any path is allowed on a loopback "
        "address, and none on other addresses",
    ),
    Setting(
        "max_upload_bytes",
        _whole(1024, 1 << 44),
        "a whole number of bytes from 1024",
        "The largest file that may be uploaded",
    ),
    Setting(
        "max_uploads_bytes",
        _whole(1024, 1 << 46),
        "a whole number of bytes from 1024",
        "The most bytes of all uploaded files together; one more is refused (507) until others are removed",
    ),
    Setting(
        "upload_lifetime_s",
        _number(60.0, 31_536_000.0),
        "seconds, from 60 to 31536000",
        "An uploaded file is removed when it was neither continued nor used for this time",
    ),
    Setting(
        "request_log",
        _one_of("off", "sampled", "all"),
        "off, sampled or all",
        "Which calls are written to the request log: none, a share of them, or all. Without their text, unless "
        "request_log_text is true",
    ),
    Setting(
        "request_log_share",
        _number(0.000001, 1.0),
        "a number from 0.000001 to 1",
        "The share of calls that is logged if request_log is sampled",
    ),
    Setting(
        "request_log_text",
        _flag,
        "true or false",
        "Write inputs and answers to the request log too, except of calls with `store: false`",
    ),
    Setting(
        "request_log_days",
        _whole(1, 36_500),
        "a whole number from 1 to 36500",
        "Days that the request log is kept, today among them: each day is a file, which is then removed",
    ),
    Setting(
        "recent_calls_bytes",
        _whole(0, 1 << 40),
        "a whole number of bytes from 0",
        "Memory for the inputs and answers of recent calls, so that feedback may name a call instead of its input; 0: "
        "none. They are not written to the disk",
    ),
    Setting(
        "rollout_texts",
        _flag,
        "true or false",
        "Keep the texts on which two versions in a rollout disagree, so that people label them; except of calls with "
        "`store: false`",
    ),
    Setting(
        "rollout_texts_days",
        _whole(1, 36_500),
        "a whole number from 1 to 36500",
        "Days that texts on which versions disagree are kept; an hour later at most they are deleted",
    ),
    Setting(
        "usage_days",
        _whole(1, 36_500),
        "a whole number from 1 to 36500",
        "Days of which usage by key and model is kept, today among them",
    ),
    Setting(
        "tls_cert",
        _path,
        "a PEM file",
        "The certificate that the daemon speaks TLS with, followed by its chain; read again when it changes. With it "
        "there is no plain HTTP",
    ),
    Setting("tls_key", _path, "a PEM file", "The certificate's key, without a password, readable by its owner alone"),
    Setting(
        "tls_ca",
        _text,
        "a PEM file, or system",
        "For commands and the Python client that reach a daemon elsewhere over https: the authorities that its "
        "certificate is checked with, or that certificate itself; system: those of this machine",
    ),
    Setting(
        "otel_endpoint",
        _url,
        "an http or https address",
        "The OpenTelemetry receiver (OTLP over HTTP) that gets a trace of each call, such as http://127.0.0.1:4318; "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` if this is not set. Needs the extra `otel`",
    ),
    Setting(
        "otel_share",
        _number(0.000001, 1.0),
        "a number from 0.000001 to 1",
        "The share of calls whose traces are sent. A client's `traceparent` decides for its own calls",
    ),
)


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Where systemd listens for what the daemon has to say, and within how many seconds it wants a sign of life."""

    address: str = ""
    watchdog_s: float = 0.0


def take_service_manager(environ: MutableMapping[str, str] | None = None) -> ServiceManager:
    """What systemd has put into the environment, taken out of it: children have nothing to tell it."""
    environment = os.environ if environ is None else environ
    address, pid, usec = (environment.pop(key, "") for key in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"))
    is_ours = usec.isdecimal() and pid in ("", str(os.getpid()))
    return ServiceManager(address, int(usec) / 1e6 if is_ours else 0.0)


def standard_otel_endpoint(environ: Mapping[str, str] | None = None) -> str:
    """The receiver that OpenTelemetry's own variables name, for all programs; empty for none.

    None too where they switch it off, name a protocol other than OTLP over HTTP, or what is no address.
    """
    environment = os.environ if environ is None else environ
    is_off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporter, protocol = (environment.get(key, "") for key in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"))
    if is_off or exporter not in ("", "otlp") or protocol not in ("", "http/protobuf"):
        return ""
    try:
        return _url(environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
    except ValueError:
        return ""


def units_folder(*, is_user: bool, environ: Mapping[str, str] | None = None) -> Path:
    """Where systemd looks for the units of the machine, or of this user."""
    if not is_user:
        return Path("/etc/systemd/system")
    settings = (os.environ if environ is None else environ).get("XDG_CONFIG_HOME") or "~/.config"
    return Path(settings).expanduser() / "systemd" / "user"


def service_differences(config: Config) -> tuple[dict[str, str], list[str]]:
    """What a service must be told to run as this configuration: variables by name, and the keys of secrets left out.

    `config.toml` says the rest.
    """
    plain = read_config({"home": config.home}, {})
    changed = [one for one in SETTINGS if getattr(config, one.key) != getattr(plain, one.key)]
    secret = {one.name for one in fields(Config) if not one.repr}
    told = {one.env: _as_text(getattr(config, one.key)) for one in changed if one.key not in secret}
    return told, [one.key for one in changed if one.key in secret]


def _as_text(value: Value) -> str:
    """A setting's value as its variable has it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def is_loopback(host: str) -> bool:
    """Whether a name or address is always the machine's own: localhost, 127.0.0.0/8, ::1."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def read_config(flags: Mapping[str, Value] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The settings in force. Flags that are None were not given; `environ` defaults to the process's own."""
    environment = os.environ if environ is None else environ
    flagged = {key: value for key, value in (flags or {}).items() if value is not None}
    for key, value in flagged.items():
        if key not in _SETTING:
            expected = ", ".join(get_close_matches(key, _SETTING) or sorted(_SETTING))
            raise BadSetting(
                f"{key} = {value!r}: there is no such setting; expected {expected}",
                key=key,
                value=str(value),
                expected=expected,
            )
    named = {s.key: environment[s.env] for s in SETTINGS if environment.get(s.env, "") != ""}
    if environment.get(HUB_TOKEN, ""):
        named.setdefault("hub_token", environment[HUB_TOKEN])
    home = _check_value(_SETTING["home"], flagged.get("home", named.get("home", "~/.llmos")), "home")
    merged = {**_file(home / "config.toml"), **{k: (v, _SETTING[k].env) for k, v in named.items()}}
    merged |= {key: (value, f"--{key}" if key in FLAGS else f"--set {key}") for key, value in flagged.items()}
    merged["home"] = (home, "home")
    return _check_pair(Config(**{key: _check_value(_SETTING[key], value, at) for key, (value, at) in merged.items()}))


def _check_pair(config: Config) -> Config:
    """The settings, if those that belong together are there together."""
    if (config.tls_cert is None) != (config.tls_key is None):
        given, missing = ("tls_key", "tls_cert") if config.tls_cert is None else ("tls_cert", "tls_key")
        value = str(getattr(config, given))
        raise BadSetting(
            f"{given} = {value!r}: expected {missing} too", key=missing, value="", expected=f"{missing} beside {given}"
        )
    return config


_SETTING = {setting.key: setting for setting in SETTINGS}


def _file(path: Path) -> dict[str, tuple[Value, str]]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(
            f"{path} is not valid TOML: {error}. Correct it or remove it",
            key=str(path),
            value="",
            expected="TOML",
            file=str(path),
        ) from error
    for key, value in values.items():
        if key not in _SETTING or key == "home":
            known = ", ".join(sorted(set(_SETTING) - {"home"}))
            raise BadSetting(
                f"{path}: no setting {key!r}. Known: {known}", key=key, value=value, expected=known, file=str(path)
            )
    return {key: (value, f"{key} in {path}") for key, value in values.items()}


def _check_value(setting: Setting, value: Value, origin: str) -> Any:  # Any: the field of Config it fills
    try:
        return setting.read(value)
    except (ValueError, TypeError) as error:
        raise BadSetting(
            f"{origin} = {value!r}: expected {setting.expected}",
            key=setting.key,
            value=str(value),
            expected=setting.expected,
            origin=origin,
        ) from error
