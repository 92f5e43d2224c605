"""The models of a server, by name and version; loaded and unloaded while it runs."""

import asyncio
import re
from collections.abc import Callable, Sequence

from trencadis_format.errors import UserError
from trencadis_host import DeviceError
from trencadis_serve.errors import UnavailableError, UnknownModelError
from trencadis_serve.limits import Limits
from trencadis_serve.model import ModelSpec, ServedModel

__all__ = ["Observer", "Repository"]

Observer = Callable[[str, int, float], None]
"""Called with a model's name, and the samples and seconds of a batch."""


class Repository:
    """Models that a server was started with. Requests name them; they never name files.

    Parameters
    ----------
    specs : sequence of ModelSpec
        All models that may be served.
    limits : Limits
        Limits of every model.
    observe : Observer
        Told about every batch.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        limits: Limits,
        observe: Observer = lambda name, samples, seconds: None,
    ) -> None:
        self._limits, self._observe = limits, observe
        self._specs: dict[str, dict[str, ModelSpec]] = {}
        for spec in specs:
            versions = self._specs.setdefault(spec.name, {})
            if spec.version in versions:
                raise UserError(
                    f"{spec.path}: model {spec.name!r} version {spec.version!r} is there already; "
                    "give it another name: NAME@VERSION=FILE"
                )
            versions[spec.version] = spec
        self._open: dict[tuple[str, str], ServedModel] = {}
        self._changing = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Names of all models, loaded or not."""
        return list(self._specs)

    def versions(self, name: str) -> list[str]:
        """Versions of a model, the newest last.

        Raises
        ------
        UnknownModelError
            If there is no such model.
        """
        if name not in self._specs:
            raise UnknownModelError(f"there is no model {name!r:.80}")
        return sorted(self._specs[name], key=_natural)

    def index(self) -> list[dict[str, str]]:
        """Name, version and state of every model, as the repository extension has them."""
        return [
            {
                "name": name,
                "version": version,
                "state": "READY" if self._ready(name, version) else "UNAVAILABLE",
                "reason": self._reason(name, version),
            }
            for name in self._specs
            for version in self.versions(name)
        ]

    def _reason(self, name: str, version: str) -> str:
        """Reason why a model, or a device of it, cannot compute."""
        model = self._open.get((name, version))
        if model is None:
            return "unloaded"
        return "; ".join(f"{s.name}: {s.reason}" for s in model.devices if s.reason)

    def _ready(self, name: str, version: str) -> bool:
        model = self._open.get((name, version))
        return model is not None and model.ready

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """A loaded model; without a version, the newest that is loaded.

        Raises
        ------
        UnknownModelError
            If there is no such model.
        UnavailableError
            If it is not loaded.
        """
        versions = self.versions(name)
        if version:
            if version not in versions:
                raise UnknownModelError(
                    f"model {name!r} has versions {versions}, not {version!r:.40}"
                )
            versions = [version]
        for known in reversed(versions):
            if (model := self._open.get((name, known))) is not None:
                return model
        raise UnavailableError(f"model {name!r} is not loaded; load it first")

    def ready(self, name: str, version: str | None = None) -> bool:
        """Tell whether a model can compute."""
        try:
            return self.get(name, version).ready
        except UnavailableError:
            return False

    @property
    def all_ready(self) -> bool:
        """Every model that is loaded can compute, and there is one."""
        return bool(self._open) and all(model.ready for model in self._open.values())

    @property
    def loaded(self) -> list[ServedModel]:
        """The models that are loaded."""
        return list(self._open.values())

    async def load(self, name: str) -> None:
        """Open all versions of a model; those that are open are opened again from their files.

        Raises
        ------
        UnknownModelError
            If there is no such model.
        UnavailableError
            If it cannot be opened; the versions that were open stay so.
        """
        async with self._changing:
            for version in self.versions(name):
                spec = self._specs[name][version]
                try:
                    model = await asyncio.to_thread(self._opened, spec)
                except (UserError, DeviceError) as error:
                    raise UnavailableError(f"model {name!r} cannot be loaded: {error}") from error
                before = self._open.get((name, version))
                self._open[name, version] = model
                if before is not None:
                    await asyncio.to_thread(before.close)

    def open_all(self) -> None:
        """Open every model, before the server starts.

        Raises
        ------
        UserError, DeviceError
            If one cannot be opened.
        """
        for versions in self._specs.values():
            for version, spec in versions.items():
                self._open[spec.name, version] = self._opened(spec)

    def _opened(self, spec: ModelSpec) -> ServedModel:
        def observe(samples: int, seconds: float) -> None:
            self._observe(spec.name, samples, seconds)

        return ServedModel(spec, self._limits, observe)

    async def unload(self, name: str) -> None:
        """Close all versions of a model, after what was accepted is computed.

        Raises
        ------
        UnknownModelError
            If there is no such model.
        """
        async with self._changing:
            for version in self.versions(name):
                model = self._open.pop((name, version), None)
                if model is not None:
                    await asyncio.to_thread(model.close)

    def close(self) -> None:
        """Close all models, after what was accepted is computed."""
        while self._open:
            _, model = self._open.popitem()
            model.close()


def _natural(version: str) -> list[tuple[int, int | str]]:
    """A key by which version 10 comes after version 9."""
    parts = re.findall(r"\d+|\D+", version)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
