"""Caffe's protobuf files, read without Caffe: .caffemodel, .prototxt and mean .binaryproto.

The messages below are the part of caffe.proto that a chain of layers like AlexNet's needs. protobuf skips all other
fields.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.extras import install_line
from alexnet.errors import UserError

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    from google.protobuf.message import DecodeError
except ImportError as missing:
    raise UserError("Caffe's files are read by protobuf", install_line("caffe")) from missing

Message = Any
"""A protobuf message. Its class is created at run time, so a type checker cannot see its fields."""

# Of each message in caffe.proto: number, name and type of its fields; * means repeated. A blob's packed floats are a
# string of bytes in the file. They are declared as bytes, so that 60 million of them do not become Python objects.
_MESSAGES = {
    "BlobShape": "1 dim int64*",
    "BlobProto": "1 num int32, 2 channels int32, 3 height int32, 4 width int32, 5 data bytes*, 7 shape BlobShape,"
                 "8 double_data bytes*",
    "NetParameter": "1 name string, 2 layers V1LayerParameter*, 3 input string*, 4 input_dim int32*,"
                    "8 input_shape BlobShape*, 100 layer LayerParameter*",
    "NetStateRule": "1 phase Phase, 4 stage string*",
    "TransformationParameter": "1 scale float, 3 crop_size uint32, 4 mean_file string, 5 mean_value float*",
    "DataParameter": "2 scale float, 3 mean_file string, 5 crop_size uint32",
    "InputParameter": "1 shape BlobShape*",
    "ConvolutionParameter": "1 num_output uint32, 2 bias_term bool, 3 pad uint32*, 4 kernel_size uint32*,"
                            "5 group uint32, 6 stride uint32*, 9 pad_h uint32, 10 pad_w uint32, 11 kernel_h uint32,"
                            "12 kernel_w uint32, 13 stride_h uint32, 14 stride_w uint32, 18 dilation uint32*",
    "PoolingParameter": "1 pool PoolMethod, 2 kernel_size uint32, 3 stride uint32, 4 pad uint32, 5 kernel_h uint32,"
                        "6 kernel_w uint32, 7 stride_h uint32, 8 stride_w uint32, 9 pad_h uint32, 10 pad_w uint32,"
                        "12 global_pooling bool",
    "LRNParameter": "1 local_size uint32, 2 alpha float, 3 beta float, 4 norm_region NormRegion, 5 k float",
    "InnerProductParameter": "1 num_output uint32, 2 bias_term bool, 5 axis int32, 6 transpose bool",
    "DropoutParameter": "1 dropout_ratio float",
    "ReLUParameter": "1 negative_slope float",
    "LayerParameter": "1 name string, 2 type string, 3 bottom string*, 4 top string*, 7 blobs BlobProto*,"
                      "8 include NetStateRule*, 9 exclude NetStateRule*, 100 transform_param TransformationParameter,"
                      "106 convolution_param ConvolutionParameter, 107 data_param DataParameter,"
                      "108 dropout_param DropoutParameter, 117 inner_product_param InnerProductParameter,"
                      "118 lrn_param LRNParameter, 121 pooling_param PoolingParameter, 123 relu_param ReLUParameter,"
                      "143 input_param InputParameter",
    "V0LayerParameter": "",
    "V1LayerParameter": "1 layer V0LayerParameter, 2 bottom string*, 3 top string*, 4 name string, 5 type LayerType,"
                        "6 blobs BlobProto*, 10 convolution_param ConvolutionParameter, 11 data_param DataParameter,"
                        "12 dropout_param DropoutParameter, 17 inner_product_param InnerProductParameter,"
                        "18 lrn_param LRNParameter, 19 pooling_param PoolingParameter, 30 relu_param ReLUParameter,"
                        "32 include NetStateRule*, 33 exclude NetStateRule*,"
                        "36 transform_param TransformationParameter",
}

_ENUMS = {
    "Phase": "TRAIN 0, TEST 1",
    "PoolMethod": "MAX 0, AVE 1, STOCHASTIC 2",
    "NormRegion": "ACROSS_CHANNELS 0, WITHIN_CHANNEL 1",
    "LayerType": "NONE 0, ACCURACY 1, BNLL 2, CONCAT 3, CONVOLUTION 4, DATA 5, DROPOUT 6, EUCLIDEAN_LOSS 7, FLATTEN 8,"
                 "HDF5_DATA 9, HDF5_OUTPUT 10, IM2COL 11, IMAGE_DATA 12, INFOGAIN_LOSS 13, INNER_PRODUCT 14, LRN 15,"
                 "MULTINOMIAL_LOGISTIC_LOSS 16, POOLING 17, RELU 18, SIGMOID 19, SOFTMAX 20, SOFTMAX_LOSS 21, SPLIT 22,"
                 "TANH 23, WINDOW_DATA 24, ELTWISE 25, POWER 26, SIGMOID_CROSS_ENTROPY_LOSS 27, HINGE_LOSS 28,"
                 "MEMORY_DATA 29, ARGMAX 30, THRESHOLD 31, DUMMY_DATA 32, SLICE 33, MVN 34, ABSVAL 35, SILENCE 36,"
                 "CONTRASTIVE_LOSS 37, EXP 38, DECONVOLUTION 39",
}

# Layer types of the V1 messages -> today's names.
_NEW_NAMES = {
    "CONVOLUTION": "Convolution", "INNER_PRODUCT": "InnerProduct", "POOLING": "Pooling", "RELU": "ReLU", "TANH": "TanH",
    "SIGMOID": "Sigmoid", "DROPOUT": "Dropout", "SOFTMAX": "Softmax", "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "ACCURACY": "Accuracy", "SPLIT": "Split", "SILENCE": "Silence", "DATA": "Data", "IMAGE_DATA": "ImageData",
    "HDF5_DATA": "HDF5Data", "MEMORY_DATA": "MemoryData", "WINDOW_DATA": "WindowData", "DUMMY_DATA": "DummyData"}


class CaffeFileError(UserError):
    """One of Caffe's files cannot be read as an AlexNet. The problem names the file."""


def require(holds: bool, problem: str, remedy: str = "") -> None:
    """Raise `CaffeFileError(problem, remedy)` unless it holds."""
    if not holds:
        raise CaffeFileError(problem, remedy)


@dataclass(frozen=True)
class Layer:
    """A layer of either message, under today's names."""

    name: str
    type: str
    bottom: tuple[str, ...]
    top: tuple[str, ...]
    blobs: Sequence[Message]
    at_test: bool
    """Whether the network of the TEST phase has it."""
    message: Message

    def option(self, parameter: str, field: str, default: Any) -> Any:
        """A field of one of its parameters, such as convolution_param; of a repeated field, the last value."""
        settings = getattr(self.message, parameter)
        value = getattr(settings, field)
        if isinstance(value, bool | int | float | str):
            return value if settings.HasField(field) else default
        return value[-1] if len(value) else default


@dataclass(frozen=True)
class Net:
    """A network as a file describes it. A trained network has blobs in its layers."""

    name: str
    layers: tuple[Layer, ...]
    input_dims: tuple[int, ...]
    """Images, channels, rows and columns, if they are given outside the layers; else empty."""


def read_caffemodel(path: Path) -> Net:
    """Read a .caffemodel. Raises UserError if it is truncated or something else."""
    require(path.is_file(), f"{path} is not a file", "name a .caffemodel")
    for ending, option in ((".prototxt", "--prototxt"), (".binaryproto", "--mean")):
        require(path.suffix != ending, f"{path} holds no weights", f"name the .caffemodel, and this file with {option}")
    return _net(_parse("NetParameter", path, ".caffemodel"), path)


def read_prototxt(path: Path) -> Net:
    """Read a .prototxt, train_val or deploy. Raises UserError, with the line, if it is something else."""
    require(path.is_file(), f"{path} is not a file", "name a .prototxt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in strings that later Pythons will reject
            message = text_format.Parse(path.read_text(encoding="utf-8"), _classes()["NetParameter"](),
                                        allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise CaffeFileError(f"{path} is not a .prototxt of a network ({error})",
                             "give the network's own description with --prototxt") from error
    return _net(message, path)


def read_binaryproto(path: Path) -> NDArray[np.float32]:
    """Read the mean image of a .binaryproto: float32 [3, rows, columns], blue, green and red, on 0..255."""
    require(path.is_file(), f"{path} is not a file", "name a mean .binaryproto, or blue, green and red: 104,117,123")
    mean = without_leading_ones(array(_parse("BlobProto", path, "mean .binaryproto"), path, "the mean"), 3)
    require(mean.ndim == 3 and mean.shape[0] == 3 and mean.shape[1] == mean.shape[2],
            f"{path} holds {_by(mean.shape)} numbers, and a mean image has 3 colors and as many rows as columns")
    require(bool(np.isfinite(mean).all()), f"{path} holds numbers that are not finite", "compute the mean again")
    return mean


def array(blob: Message, path: Path, what: str) -> NDArray[np.float32]:
    """A blob's values in its shape: float32. Older files give the shape as num, channels, height and width.

    Args:
        blob: a BlobProto.
        path: the file, for the error.
        what: which blob it is, for the error.
    """
    packed, width = (b"".join(blob.data), 4) if blob.data else (b"".join(blob.double_data), 8)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    count = len(packed) // width
    require(len(packed) % width == 0 and min(shape, default=1) > 0 and math.prod(shape) == count,
            f"{path}: {what} has {count:,} numbers, and its shape is {_by(shape)}", "the file is damaged")
    with np.errstate(over="ignore"):  # a double beyond float32's range becomes infinite, and is rejected later
        return np.frombuffer(packed, f"<f{width}").astype(np.float32).reshape(shape)


def without_leading_ones(numbers: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """The array with at most `dimensions` axes. Older files give every blob four: a bias of 96 is 1x1x1x96."""
    while numbers.ndim > dimensions and numbers.shape[0] == 1:
        numbers = numbers[0]
    return numbers


def _by(shape: Sequence[int]) -> str:
    """A shape as 96x3x11x11."""
    return "x".join(map(str, shape)) or "nothing"


# --- From messages ----------------------------------------------------------------------------------------------------


def _parse(name: str, path: Path, what: str) -> Message:
    try:
        return _classes()[name].FromString(path.read_bytes())
    except DecodeError as error:
        raise CaffeFileError(f"{path} is truncated, or no {what}", "download it again") from error


def _net(message: Message, path: Path) -> Net:
    layers = (*message.layers, *message.layer)
    require(bool(layers), f"{path} holds no layers", "name a trained .caffemodel, or a train_val or deploy .prototxt")
    dims = message.input_shape[0].dim if message.input_shape else message.input_dim[:4]
    return Net(_text(message.name), tuple(_layer(layer, path) for layer in layers), tuple(dims))


def _layer(message: Message, path: Path) -> Layer:
    kind = message.type
    if isinstance(kind, int):
        require(not message.HasField("layer"), f"{path} has layers in the form of 2013 (V0)",
                "convert it with Caffe's upgrade_net_proto_binary or upgrade_net_proto_text first")
        old = message.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[kind].name
        kind = _NEW_NAMES.get(old, old)
    included = not message.include or any(map(_holds_at_test, message.include))
    return Layer(_text(message.name), _text(kind), tuple(map(_text, message.bottom)), tuple(map(_text, message.top)),
                 message.blobs,
                 included and not any(map(_holds_at_test, message.exclude)), message)


def _text(value: str | bytes) -> str:
    """The text of a string field; protobuf gives bytes for one that is no UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _holds_at_test(rule: Message) -> bool:
    test = 1
    return not rule.stage and (not rule.HasField("phase") or rule.phase == test)


@cache
def _classes() -> dict[str, Any]:
    """Create the classes of `_MESSAGES`: name -> class."""
    file = descriptor_pb2.FileDescriptorProto(name="alexnet/caffe.proto", package="caffe", syntax="proto2")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value in values.split(","):
            word, number = value.split()
            enum.value.add(name=word, number=int(number))
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(",")):
            number, word, kind = text.split()
            field = message.field.add(
                name=word, number=int(number),
                label=kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL)
            kind = kind.rstrip("*")
            if kind in _MESSAGES or kind in _ENUMS:
                field.type = kinds.TYPE_MESSAGE if kind in _MESSAGES else kinds.TYPE_ENUM
                field.type_name = f".caffe.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in _MESSAGES}
