"""Model directories: ``model.safetensors``, ``config.json`` and a model card, found by name or by folder."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from Vox2VecCore.config import ModelConfig
from Vox2VecCore.errors import ModelError
from Vox2VecCore.paths import models_folder, new_folder, shipped_models_folders

if TYPE_CHECKING:
    from torch import Tensor

    from Vox2VecCore.network import EmbeddingNetwork

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
DEFAULT_MODEL = "vox2vec-small"


@dataclass(frozen=True)
class Model:
    """A model on disk whose configuration has been read; weights are read when a network is asked for."""

    config: ModelConfig
    directory: Path

    @property
    def name(self) -> str:
        """Name from the configuration."""
        return self.config.name

    @property
    def hash(self) -> str:
        """Identity of the embedding: weights, geometry, window, tiles and statistics, but not name or card."""
        defining = asdict(replace(self.config, name="", licence="", training={}))
        return hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()

    def check_weights(self) -> Path:
        """The weights file, after comparing its hash, which takes a tenth of a second for the official model.

        :raises ModelError: if the file is missing or damaged.
        """
        path = self.directory / WEIGHTS
        try:
            if file_sha256(path) != self.config.weights_sha256:
                raise ModelError(f"{path}: damaged (its hash is not the one in {CONFIG}); fetch or import it again.")
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror}); fetch or import the model again.") from error
        return path

    def network(self) -> "EmbeddingNetwork":
        """The network with its weights, in evaluation mode on the CPU.

        :raises ModelError: if the weights file is missing, damaged, or does not match the configuration.
        """
        # Imported here, so that listing models does not wait for PyTorch.
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from Vox2VecCore.network import EmbeddingNetwork

        path = self.check_weights()
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: damaged ({error}); fetch or import the model again.") from error
        network = EmbeddingNetwork(self.config.architecture)
        load_strictly(network, tensors, path)
        return network.eval()


def load_strictly(network: "EmbeddingNetwork", tensors: "dict[str, Tensor]", where: Path) -> None:
    """Fill a network with tensors; any missing, surplus or misshapen tensor is an error."""
    expected = network.state_dict()
    if missing := sorted(set(expected) - set(tensors)):
        raise ModelError(f"{where}: {len(missing)} tensors are missing, first {missing[0]}; not the described network.")
    if surplus := sorted(set(tensors) - set(expected)):
        raise ModelError(f"{where}: {len(surplus)} unknown tensors, first {surplus[0]}; not the described network.")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            got, want = list(tensor.shape), list(expected[name].shape)
            raise ModelError(f"{where}: {name} has shape {got} instead of {want}; not the described network.")
    network.load_state_dict(tensors)


def load_model(name_or_directory: str | Path = DEFAULT_MODEL) -> Model:
    """Find a model by name (shipped, fetched or imported) or by its directory.

    :raises ModelError: if there is none, or its configuration cannot be used.
    """
    directory = Path(name_or_directory)
    if not directory.is_dir():
        directory = _named(str(name_or_directory))
    try:
        text = (directory / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{directory}: no readable {CONFIG}; this is not a model directory.") from error
    return Model(ModelConfig.from_json(text, directory / CONFIG), directory)


def list_models() -> list[Model]:
    """Models that can be loaded by name; the shipped ones first. Damaged configurations are left out."""
    models: dict[str, Model] = {}
    for folder in [*shipped_models_folders(), models_folder()]:
        for config in sorted(folder.glob(f"[!.]*/{CONFIG}")):
            try:
                models.setdefault(config.parent.name, load_model(config.parent))
            except ModelError:
                continue
    return list(models.values())


def _named(name: str) -> Path:
    for folder in [*shipped_models_folders(), models_folder()]:
        if name and Path(name).name == name and (folder / name / CONFIG).is_file():
            return folder / name
    known = ", ".join(model.directory.name for model in list_models()) or "none"
    hint = " Get the official weights with 'vox2vec models fetch vox2vec'." if name == "vox2vec" else ""
    raise ModelError(f"Unknown model '{name}': neither a directory nor one of the models here ({known}).{hint}")


def save_model(network: "EmbeddingNetwork", config: ModelConfig, directory: Path, card: str | None = None) -> Model:
    """Write a new model directory; nothing is left when writing fails.

    :param config: its ``weights_sha256`` is replaced by that of the file written.
    :param card: text of the model card; left out for none.
    :raises ModelError: if the directory exists or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if directory.exists():
        raise ModelError(f"{directory} exists already; choose another name or remove it first.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    try:
        with new_folder(directory) as folder:
            save_file(tensors, folder / WEIGHTS)
            (folder / WEIGHTS).chmod(0o644)  # safetensors keeps files to their owner
            config = replace(config, weights_sha256=file_sha256(folder / WEIGHTS))
            (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
            if card is not None:
                (folder / CARD).write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{directory}: the model cannot be written ({error}); check space and rights.") from error
    return Model(config, directory)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
