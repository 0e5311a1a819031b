"""ONNX files: written by torch's exporter for any batch size, run by onnxruntime, and read back as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from alexnet._runtime.extras import install_line
from alexnet.architecture.overrides import to_json
from alexnet.errors import UserError, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.checkpoint_metadata import license_metadata, own_weights, restore, to_text
from alexnet.models.formats.input_metadata import input_metadata
from alexnet.models.formats.parity import Runner, example_input, exporter_silenced
from alexnet.models.stored_network import METADATA_KEY, QUANTIZED_KEY


def write(network: nn.Module, saved: Checkpoint, path: Path, *, from_pixels: bool) -> None:
    """Write a network with an input `pixels` or `views` and an output `logits`, from which it can be read back.

    Raises:
        UserError: a package of the `export` extra is missing.
    """
    write_program(
        network, example_input(saved, 2, from_pixels), [input_name(from_pixels)], ["logits"], path,
        {METADATA_KEY: to_text(saved), **readable_metadata(saved, from_pixels=from_pixels)})


def input_name(from_pixels: bool) -> str:
    """What the input is called: by what it takes, stored uint8 images or views."""
    return "pixels" if from_pixels else "views"


def readable_metadata(saved: Checkpoint, *, from_pixels: bool) -> dict[str, str]:
    """Classes, `Arch`, provenance, license note, and what a program needs to make the input."""
    return {"classes": json.dumps(saved.classes), "arch": json.dumps(to_json(saved.arch)),
            "provenance": json.dumps(saved.provenance), **input_metadata(saved, from_pixels=from_pixels),
            **license_metadata(saved)}


def write_program(
    network: nn.Module, example: Tensor, inputs: list[str], outputs: list[str], path: Path, metadata: dict[str, str],
) -> None:
    """Write any module as an ONNX file for any batch size.

    Args:
        network: the module.
        example: an input of two images, because the exporters make a constant of a batch of one.
        inputs, outputs: names of the module's.
        path: the file.
        metadata: texts that the file carries.

    Raises:
        UserError: a package of the `export` extra is missing.
    """
    try:
        import onnxruntime  # noqa: F401  # runs the file afterwards
        import onnxscript.optimizer  # torch's exporter is written in it
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name}", install_line("export")) from error
    with exporter_silenced():
        program = torch.onnx.export(
            network, (example,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("images")},), input_names=inputs,
            output_names=outputs, verbose=False,
            # torch's optimizer would fuse batch normalization into the convolutions and merge equal biases, and the
            # checkpoint could not be read back.
            optimize=False)
        assert program is not None
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
        program.model.metadata_props.update(metadata)
        program.save(str(path))


def read_onnx(path: Path) -> Checkpoint:
    """Read the checkpoint in a file that `write` wrote.

    Raises:
        UserError: the file is damaged or of another program, or the package onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError("reading ONNX needs onnx", install_line("export")) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
        state = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
                 for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.DEFAULT}
    except Exception as error:  # protobuf and NumPy have a dozen kinds for damaged files
        raise UserError(f"{path} is truncated, or not an ONNX file", "export it again") from error
    require(not any(entry.key == QUANTIZED_KEY for entry in model.metadata_props),
            f"the weights in {path} are quantized, so it cannot be used as a checkpoint, nor evaluated",
            "name the run it was exported from; what quantization changes was printed at its export")
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    require(bool(texts), f"{path} is an ONNX file that alexnet export did not write, and others are not read",
            "give a state dict (.pth or .safetensors) of the network")
    return restore(texts[0], own_weights(state), path)


def read(path: Path, output: str | None = None) -> Runner:
    """Load a file into onnxruntime, on the CPU. output: the name of what it computes; default: its first output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    names = [output] if output else None
    return lambda inputs: session.run(names, {name: inputs.numpy()})[0]
