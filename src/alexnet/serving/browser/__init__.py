"""A network in the browser: static files that classify images without a server and show every layer (`--to web`).

`page.write_browser_page` writes them. The network is an ONNX file, which onnxruntime-web runs.
"""
