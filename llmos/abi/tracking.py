"""Where the curves of a training go besides its evidence: a tracker by its name, and perhaps a folder of the user's."""

from __future__ import annotations

from llmos.abi.error import BadSetting

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")  # the files of llmos/training/trackers


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
