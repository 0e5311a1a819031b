"""A network in the browser: a page that classifies images without a server and shows every layer.

`page.write_browser_page` writes them. The network is an ONNX file, which onnxruntime-web runs.
"""
