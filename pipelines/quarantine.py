"""Opening what the job sealed: for the holder of the quarantine's private key alone."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.keys import private_key
from schemas.errors import ConfigurationError, StoreError
from schemas.seal import QUARANTINE_INFO, Quarantined, unseal


def opened(files: list[Path], key: Path) -> Iterator[Quarantined]:
    """The messages in sealed files, in the order named. Raises ConfigurationError for a file or key of no use."""
    private = private_key(key)
    for file in files:
        try:
            yield Quarantined.decode(unseal(file.read_bytes(), private, QUARANTINE_INFO))
        except OSError:
            raise ConfigurationError("FILE", f"{file} cannot be read", "name a file of DIR/quarantine") from None
        except StoreError:
            raise ConfigurationError(
                "--private-key", f"it does not open {file}", "name the key of the state folder that sealed it"
            ) from None
