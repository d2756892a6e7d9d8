"""The settings: a typed model whose values come from files, the environment and command-line options.

If several settings are wrong, one error reports all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSource

from deltabook.jobs.console.logging import LogForm
from deltabook.schemas.errors import InputError, SettingsError
from deltabook.schemas.names import (
    DAY,
    FULL_DEPTH,
    NANOSECONDS_PER_SECOND,
    Cadence,
    OnGap,
    Repair,
    RowPolicy,
    Seed,
    step_of,
    valid_name,
)
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.storage.locations import parse_location

_ENVIRONMENT_PREFIX = "DELTABOOK_"
_CONTENT_SETTINGS = {"cadence", "checkpoint_every", "depth", "instruments", "ofi_levels", "on_gap", "seed"}
_CONTENT_SETTINGS |= {
    "repair",
    "reseed_after",
    "silence_seconds",
    "minimum_match",
    "most_late",
    "most_untimed",
}
_MAX_SCALE = 17  # with a scale of 18, the product DECIMAL(19,0) * unit would not be exact in 38 digits


class Scales(BaseModel):
    """How one instrument's prices and sizes are stored: as scaled integers or as decimals.

    Attributes
    ----------
    price_scale, size_scale : int
        Number of digits after the decimal point, at most 17.
    is_decimal : bool
        Whether numbers are stored as DECIMAL(38,18). In this case, both scales are 18.
    """

    model_config = ConfigDict(extra="forbid")

    price_scale: int = Field(ge=0)
    size_scale: int = Field(ge=0)
    is_decimal: bool = False

    @model_validator(mode="before")
    @classmethod
    def _add_decimal_scales(cls, given: object) -> object:
        """Add both scales, which are always 18, to a setting that is only `is_decimal: true`."""
        is_decimal_only = isinstance(given, dict) and given == {"is_decimal": True}
        return {"is_decimal": True, "price_scale": 18, "size_scale": 18} if is_decimal_only else given

    @model_validator(mode="after")
    def _check_scales(self) -> Scales:
        if not self.is_decimal and max(self.price_scale, self.size_scale) > _MAX_SCALE:
            raise ValueError(
                f"a scale is at most {_MAX_SCALE}; for more digits give `is_decimal: true` alone"
            )
        return self


def _parse_warehouse(name: object) -> Path:
    if not isinstance(name, str | Path) or not str(name):
        raise ValueError("expected a folder, or s3a://bucket/folder")
    try:
        return parse_location(name)
    except SettingsError as error:
        raise ValueError(str(error)) from None


class Settings(BaseSettings):
    """All settings. The file `conf/deltabook.yaml` explains each one."""

    model_config = SettingsConfigDict(env_prefix=_ENVIRONMENT_PREFIX, extra="forbid")
    config_files: ClassVar[list[Path]] = []

    warehouse: Annotated[Path, PlainValidator(_parse_warehouse)]
    master: str = Field(min_length=1)
    driver_memory: str = Field(pattern=r"^\d+[kmgt]$")
    depth: int = Field(ge=1, le=FULL_DEPTH)
    cadence: str
    checkpoint_every: int = Field(ge=1)
    chunk: str
    on_gap: OnGap
    ofi_levels: int = Field(ge=0, le=20)
    silence_seconds: int = Field(ge=1, le=3600)
    seed: Seed
    repair: Repair
    reseed_after: float = Field(ge=0, le=3600)
    minimum_match: float = Field(gt=0, lt=1)
    most_late: float = Field(ge=0, le=1)
    most_untimed: float = Field(ge=0, le=1)
    most_symbols: int = Field(ge=1, le=10_000_000)
    most_levels: int = Field(ge=1, le=100_000_000)
    jars: Path | None
    log: LogForm
    instruments: dict[str, dict[str, Scales]]

    @field_validator("instruments")
    @classmethod
    def _check_instrument_names(
        cls, instruments: dict[str, dict[str, Scales]]
    ) -> dict[str, dict[str, Scales]]:
        for exchange, symbols in instruments.items():
            for symbol in symbols:
                try:
                    valid_name(exchange, "exchange")
                    valid_name(symbol, "symbol")
                except InputError as error:
                    raise ValueError(str(error)) from None
        return instruments

    @field_validator("depth", mode="before")
    @classmethod
    def _parse_depth(cls, depth: object) -> object:
        return FULL_DEPTH if depth == "full" else depth

    @field_validator("cadence")
    @classmethod
    def _check_cadence(cls, text: str) -> str:
        first, *grids = cadences = text.split(",")
        if len(set(cadences)) < len(cadences):
            raise ValueError("each cadence may be given once")
        for step in grids if first in tuple(Cadence) else cadences:
            try:
                step_of(step)
            except ValueError as error:
                raise ValueError(
                    f"expected change, message or a length of time, then only lengths of time: {error}"
                ) from None
        return text

    @field_validator("chunk")
    @classmethod
    def _check_chunk(cls, chunk: str) -> str:
        if DAY % step_of(chunk) or step_of(chunk) < NANOSECONDS_PER_SECOND:
            raise ValueError(f"{chunk!r}: expected a length of time from 1s to 1d that divides a day")
        return chunk

    @property
    def row_policy(self) -> RowPolicy:
        """The settings that say which rows of books are written."""
        cadence, *grids = self.cadence.split(",")
        return RowPolicy(
            depth=self.depth,
            cadence=cadence,
            grids=tuple(grids),
            on_gap=self.on_gap,
            silence=self.silence_seconds * NANOSECONDS_PER_SECOND,
            ofi_levels=self.ofi_levels,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
            repair=self.repair,
            reseed_after=round(self.reseed_after * NANOSECONDS_PER_SECOND),
        )

    @property
    def limits(self) -> Limits:
        """Limits of input: the largest number of symbols in a file, and of level changes in a message."""
        return Limits(self.most_symbols, self.most_levels)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of all settings that change the content of tables."""
        text = self.model_dump_json(include=_CONTENT_SETTINGS)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings. An earlier source overrides a later one."""
        return init_settings, env_settings, _Files(settings_cls)


class _Files(PydanticBaseSettingsSource):
    """Source of settings that reads the shipped defaults, and then the user's file, which overrides them."""

    def get_field_value(self, field: object, field_name: str) -> tuple[object, str, bool]:
        raise NotImplementedError

    def __call__(self) -> dict[str, object]:
        shipped = [files("deltabook.conf").joinpath(name) for name in ("deltabook.yaml", "instruments.yaml")]
        values: dict[str, object] = {}
        for text in (file.read_text() for file in shipped):
            values |= yaml.safe_load(text)
        for path in Settings.config_files:
            values |= _read_yaml(path)
        return values


def load_settings(config: Path | None, flags: Mapping[str, object]) -> Settings:
    """Return the settings from the shipped defaults, a file, the environment and command-line options.

    Parameters
    ----------
    config : Path or None
        YAML file that overrides the shipped defaults.
    flags : mapping
        Values of command-line options by setting name; None means that the option was not given.

    Returns
    -------
    Settings
        Complete and checked settings.

    Raises
    ------
    SettingsError
        If any setting is wrong, or if a file is not readable. The message lists all wrong settings.
    """
    Settings.config_files = [config] if config else []
    # The values have any type until the model has checked them.
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [
            f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']} (found {problem['input']!r})"
            for problem in error.errors()
        ]
        raise SettingsError("settings are not usable:\n" + "\n".join(problems)) from None
    except UnreadableSource as error:
        raise SettingsError(f"settings are not usable: {error}: {error.__cause__}") from None


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}") from None
    if not isinstance(values, dict | None) or not all(isinstance(name, str) for name in values or {}):
        raise SettingsError(f"settings file {path}: expected `name: value` lines")
    return values or {}
