"""Weights of other projects, read and written: torchvision, Hugging Face, Caffe, ONNX."""
