"""Weights of other projects: torchvision, Hugging Face and Caffe in; torchvision, Hugging Face, ONNX, torch.export out.

`open_weights.open_weights` reads, `export.export` writes. Caffe has its own reader, `caffe.read_caffe`.
"""
