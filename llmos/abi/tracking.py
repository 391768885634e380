"""Where the curves of a training go besides its evidence: a tracker by its name, and perhaps a folder of the user's."""

from __future__ import annotations

from importlib.util import find_spec

from llmos.abi.error import BadInput, BadSetting

# The files of llmos/training/trackers, and the package that each needs.
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
TRACKERS = tuple(PACKAGES)


def track_of(track: str) -> tuple[str, str]:
    """The tracker and the folder in `wandb` or `wandb:/a/folder`; BadSetting for another tracker or a relative path."""
    name, _, folder = track.partition(":")
    if name not in TRACKERS or (folder and not folder.startswith("/")):
        raise BadSetting(
            f"track is {track!r}; it must be one of {', '.join(TRACKERS)}, and may name a folder: "
            f"{TRACKERS[0]}:/a/folder",
            key="track",
            value=track,
            expected=f"one of {', '.join(TRACKERS)}",
        )
    return name, folder


def check_installed(track: str) -> None:
    """BadInput if the tracker's package is not there, with the way to get it; a folder of its name is no package."""
    name, _ = track_of(track)
    spec = find_spec(PACKAGES[name])
    if spec is None or spec.origin is None:
        raise not_installed(PACKAGES[name], name)


def not_installed(package: str, extra: str) -> BadInput:
    """What to raise where a tracker's package is not there: the user has to bring it."""
    return BadInput(f"{package} is not installed. Install it: pip install 'llmos[{extra}]'", key="track", lacks=package)
