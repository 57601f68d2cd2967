"""The recorded profile of a feed: the file that `limen feed check` writes with --record and compares with --profile."""

import os
from pathlib import Path

from schemas import feed_profile
from schemas.errors import ConfigurationError, StoreError
from schemas.feed_profile import FeedProfile


def recorded(file: Path) -> FeedProfile:
    """The profile in a file that `record` wrote. Raises ConfigurationError."""
    try:
        return feed_profile.decode(file.read_bytes())
    except OSError:
        raise ConfigurationError("--profile", f"{file} cannot be read", "record one with --record") from None
    except ValueError:
        raise ConfigurationError("--profile", f"{file} is no feed profile", "record one with --record") from None


def recordable(file: Path) -> None:
    """Raises ConfigurationError, before anything is read, if a profile cannot be written there."""
    folder = file.absolute().parent
    if file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError("--record", f"{file} cannot be written", "name a file in a folder that exists")
    if file.exists():
        try:
            feed_profile.decode(file.read_bytes())
        except (OSError, ValueError):  # it may be the feed itself
            problem = f"{file} is there and no feed profile"
            raise ConfigurationError("--record", problem, "name a new file, or the profile to replace") from None


def record(profile: FeedProfile, file: Path) -> None:
    """Write the profile, whole or not at all, over an older one if there is one."""
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        staged.write_bytes(feed_profile.encode(profile))
        staged.replace(file)
    except OSError:
        staged.unlink(missing_ok=True)
        raise StoreError("profile_not_written") from None
